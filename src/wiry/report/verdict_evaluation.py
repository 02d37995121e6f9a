"""The verdict on a network that was only evaluated: how good, by what protocol, how sure."""

from wiry.report.collect_folder import FolderData
from wiry.report.doubts import has_error, is_black_box
from wiry.report.evaluations import Evaluation
from wiry.report.reading import number
from wiry.report.verdict_parts import Measured, Verdict, budget, judged_by, keeps, test_facts, tiles
from wiry.report.words import SPACE, count, duration, percent, percent_interval, points


def evaluation_verdict(folder: FolderData) -> Verdict:
    """Write the verdict of an evaluation's folder."""
    evaluation = folder.evaluation
    ours = numbers_of(evaluation)
    facts = test_facts(evaluation, evaluation)
    facts.append(("How sure", " ".join([*_doubts(evaluation), *_screened(evaluation)])))
    if evaluation.seconds is not None:
        facts.append(("Time", duration(evaluation.seconds)))
    where = f"{folder.name} on {folder.data}" if folder.data else folder.name
    return Verdict(
        "open", _headline(evaluation, where), _lead(evaluation), tiles(ours, None), facts
    )


def _screened(evaluation: Evaluation) -> list[str]:
    bound = number((evaluation.screened or {}).get("accuracy_bound"))
    if not bound:
        return []
    return [
        f"It was screened: with 95{SPACE}% confidence the robust accuracy is at most "
        f"{points(bound)} higher than under all attacks."
    ]


def numbers_of(evaluation: Evaluation) -> Measured:
    """Bring an evaluation without a run into the form of the key figures."""
    return Measured(
        density=evaluation.density,
        nonzeros=evaluation.cost.get("nonzeros"),
        prunable=evaluation.cost.get("prunable"),
        clean=evaluation.clean_accuracy,
        clean_interval=evaluation.clean_interval,
        robust=evaluation.robust_accuracy,
        robust_interval=evaluation.robust_interval,
    )


def _headline(evaluation: Evaluation, where: str) -> str:
    if has_error(evaluation):
        return f"The numbers of {where} are wrong; see what the checks found."
    robust = evaluation.robust_accuracy
    if robust is None:
        return f"{where}: {percent(evaluation.clean_accuracy)} clean; no attack was run."
    accuracies = f"{percent(robust)} robust, {percent(evaluation.clean_accuracy)} clean"
    only = " (black box only)" if is_black_box(evaluation) else ""
    return f"{where}: {accuracies}{only}."


def _lead(evaluation: Evaluation) -> str:
    clean = _with(evaluation.clean_accuracy, evaluation.clean_interval)
    text = f"It classifies {clean} of {count(evaluation.num_samples)} images correctly"
    if evaluation.robust_accuracy is None:
        text += "."
    else:
        robust = _with(evaluation.robust_accuracy, evaluation.robust_interval)
        text += f" and {robust} under attack: {judged_by(evaluation)}, {budget(evaluation)}."
    ours = numbers_of(evaluation)
    return text if ours.density is None else f"{text} It {keeps(ours)}."


def _with(share: float, interval: tuple[float, float] | None) -> str:
    return f"{percent(share)} ({percent_interval(interval)})" if interval else percent(share)


def _doubts(evaluation: Evaluation) -> list[str]:
    if evaluation.findings is None:
        found = ["No check looked for mistakes."]
    else:
        num = sum(finding.severity != "note" for finding in evaluation.findings)
        what = "one reason" if num == 1 else f"{num} reasons"
        found = [f"The checks found {what if num else 'no reason'} to doubt the numbers."]
    if evaluation.robust_accuracy is not None:
        found.append("Attacks bound the robust accuracy from above only.")
    if evaluation.clean_interval:
        found.append(f"Intervals are of 95{SPACE}% for the choice of images.")
    return found

"""Tables over several runs: LaTeX for a paper, CSV for a spreadsheet.

Runs of one recipe are its seeds: each cell is the mean and, where there are several, the sample
standard deviation. The LaTeX table has the rows and columns of tables 1 and 2 of Cosentino et al.
2019 (arXiv 1912.02386). Differs: their deviation is the population's.
"""

import csv
import io
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from wiry.core.errors import UserError
from wiry.core.files import write_atomic
from wiry.report.series import Measurement, measurements
from wiry.report.sources import collect_all
from wiry.report.words import eps_text

CSV_COLUMNS = (
    "recipe",
    "stage",
    "density",
    "nonzeros",
    "split",
    "num_samples",
    "eps",
    "norm",
    "attack",
    "num_seeds",
    "clean_mean",
    "clean_std",
    "robust_mean",
    "robust_std",
    "runs",
)
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
} | {mark: f"\\{mark}" for mark in "&%$#_{}"}


def write_latex(roots: Sequence[Path], path: Path) -> None:
    """Write a LaTeX table (booktabs): a row per density, clean and robust accuracy per recipe.

    Raises:
        UserError: if nothing in `roots` was evaluated.
    """
    write_atomic(path, latex_table(_measure(roots)))


def write_csv(roots: Sequence[Path], path: Path) -> None:
    """Write a CSV table: per network a row of the worst case and one per attack, as shares.

    Raises:
        UserError: if nothing in `roots` was evaluated.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for m in _measure(roots):
        worst = [(m.attack or "", m.robust)]
        for attack, robust in [*worst, *(m.attacks.items() if len(m.attacks) > 1 else ())]:
            writer.writerow(_csv_row(m, attack, robust))
    write_atomic(path, text.getvalue())


def latex_table(found: Sequence[Measurement]) -> str:
    """Return the LaTeX table of measurements."""
    groups = list(dict.fromkeys(m.group for m in found))
    cells = {(_percent(m.density), m.group): m for m in found}
    densities = sorted({_percent(m.density) for m in found}, key=float, reverse=True)
    columns = "".join("cc" for _ in groups)
    heads = [rf"\multicolumn{{2}}{{c}}{{{latex_escape(_headed(g, found))}}}" for g in groups]
    rules = [rf"\cmidrule(lr){{{2 * i + 2}-{2 * i + 3}}}" for i in range(len(groups))]
    lines = [
        r"% needs \usepackage{booktabs}",
        rf"\begin{{tabular}}{{r{columns}}}",
        r"\toprule",
        " & ".join([r"Weights left", *heads]) + r" \\",
        "".join(rules),
        " & ".join([r"(\%)", *(["clean (\\%)", "robust (\\%)"] * len(groups))]) + r" \\",
        r"\midrule",
    ]
    for density in densities:
        row = [density]
        for group in groups:
            m = cells.get((density, group))
            row += [_spread(m.clean), _spread(m.robust)] if m else ["--", "--"]
        lines.append(" & ".join(row) + r" \\")
    budgets = sorted({f"eps {eps_text(m.eps)}, {m.norm}" for m in found if m.robust})
    attacks = sorted({m.attack for m in found if m.robust and m.attack})
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [f"% mean and sample standard deviation over seeds; robust: {'; '.join(budgets)}"]
    if len(cells) < len(found):
        lines.append("% of stages of one recipe with the same density the last is shown")
    lines += [f"% attack: {' '.join(attack.split())}" for attack in attacks]
    return "\n".join(lines) + "\n"


def latex_escape(text: str) -> str:
    """Escape what LaTeX would read as a command."""
    return "".join(_SPECIAL.get(mark, mark) for mark in text)


def _measure(roots: Sequence[Path]) -> list[Measurement]:
    found = measurements(collect_all(roots))
    if not found:
        names = ", ".join(repr(str(root)) for root in roots)
        raise UserError(f"nothing to tabulate: no stage in {names} has been evaluated")
    return found


def _headed(group: str, found: Iterable[Measurement]) -> str:
    seeds = max(len(m.clean) for m in found if m.group == group)
    return f"{group} (n = {seeds})" if seeds > 1 else group


def _percent(density: float) -> str:
    return f"{100 * density:.1f}" if density >= 0.001 else f"{100 * density:.3g}"


def _spread(shares: Sequence[float]) -> str:
    if not shares:
        return "--"
    mean = f"{100 * statistics.fmean(shares):.2f}"
    if len(shares) == 1:
        return f"${mean}$"
    return rf"${mean} \pm {100 * statistics.stdev(shares):.2f}$"


def _csv_row(m: Measurement, attack: str, robust: Sequence[float]) -> list[object]:
    def spread(shares: Sequence[float]) -> tuple[float | str, float | str]:
        mean = statistics.fmean(shares) if shares else ""
        return mean, statistics.stdev(shares) if len(shares) > 1 else ""

    nonzeros = "" if m.nonzeros is None else m.nonzeros
    measured = [m.group, m.stage, m.density, nonzeros, m.split, m.num_samples or ""]
    asked = ["" if m.eps is None else m.eps, m.norm or "", attack, len(m.clean)]
    return [*measured, *asked, *spread(m.clean), *spread(robust), " ".join(m.runs)]

(() => {
  "use strict";
  const root = document.documentElement;
  const config = {
    responsive: true, displayModeBar: false,
  };

  // Colour tokens (@ink) become the style sheet's colours; texts are left alone.
  function paint(node, colors, key) {
    if (Array.isArray(node)) return node.map((item) => paint(item, colors, key));
    if (node && typeof node === "object") {
      return Object.fromEntries(Object.entries(node).map(([k, v]) => [k, paint(v, colors, k)]));
    }
    const token = typeof node === "string" && node.startsWith("@") && /color(scale)?$/i.test(key || "");
    return token ? colors.getPropertyValue("--" + node.slice(1)).trim() : node;
  }

  function axes(layout, narrow) {
    const base = {
      gridcolor: "@grid", linecolor: "@line", zeroline: false, ticks: "", automargin: true,
      tickfont: { size: narrow ? 11 : 12 }, nticks: narrow ? 6 : 0,
    };
    const found = { xaxis: {}, yaxis: {}, ...layout };
    for (const key of Object.keys(found).filter((name) => /^[xy]axis\d*$/.test(name))) {
      const title = { font: { size: 13, color: "@muted" }, standoff: 8, ...(found[key].title || {}) };
      found[key] = { ...base, ...found[key], title };
    }
    return found;
  }

  function draw(figure) {
    const place = figure.querySelector(".plot");
    const spec = JSON.parse(figure.querySelector("script").textContent);
    const narrow = place.clientWidth < 480;
    const rows = narrow ? Math.ceil(spec.legend / 2) : Math.ceil(spec.legend / 4);
    const height = spec.height + (spec.legend > 1 ? 22 * rows : 0);
    const layout = {
      font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: "@ink" },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 52, r: 14, t: spec.legend > 1 ? 22 + 22 * rows : 14, b: 48 },
      showlegend: spec.legend > 1, dragmode: matchMedia("(hover: none)").matches ? false : "zoom",
      legend: { orientation: "h", x: 0, xanchor: "left", y: 1.01, yanchor: "bottom",
        yref: "paper", font: { size: 12 }, bgcolor: "rgba(0,0,0,0)" },
      hoverlabel: { bgcolor: "@raised", bordercolor: "@line", font: { color: "@ink" }, align: "left" },
      ...axes(spec.layout, narrow), height,
    };
    place.style.minHeight = height + "px";
    const colors = getComputedStyle(root);
    Plotly.react(place, paint(spec.data, colors), paint(layout, colors), config);
  }

  const drawAll = () => document.querySelectorAll("figure.chart").forEach(draw);
  drawAll();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  addEventListener("beforeprint", () => { root.classList.add("print"); drawAll(); });
  addEventListener("afterprint", () => { root.classList.remove("print"); drawAll(); });
})();

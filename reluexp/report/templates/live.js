// Figures that can be explored: each still picture with data-live gets a chart with controls when it comes into view.
(() => {
  "use strict";
  const reduced = (list, keep) => list.filter((item, i) => list.findIndex((other) => keep(other) === keep(item)) === i);
  const escape = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const dark = () => matchMedia("(prefers-color-scheme: dark)").matches;
  const coarse = () => matchMedia("(pointer: coarse)").matches;
  let data = null;
  let ready = null;

  async function unpack(id) {
    const bytes = Uint8Array.from(atob(document.getElementById(id).textContent.trim()), (c) => c.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  }

  function load() {
    ready ??= (async () => {
      data = JSON.parse(await unpack("live-data"));
      const script = document.createElement("script");
      script.textContent = await unpack("live-library");
      document.head.append(script);
    })();
    return ready;
  }

  function number(value, share) {
    if (value === null || value === undefined) return "–";
    if (share) return `${+(100 * value).toPrecision(4)} %`;
    return Math.abs(value) >= 1e5 || (value !== 0 && Math.abs(value) < 1e-3) ? value.toExponential(2) : String(value);
  }

  // Colours that would be lost on a dark page are mixed with white; black, which would be one grey of many, turns round.
  const shade = (colour) => {
    if (!dark()) return colour;
    if (colour.toLowerCase() === "#000000") return "#f2f2f2";
    let parts = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16) / 255);
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const luminance = () => parts.reduce((sum, v, i) => sum + [0.2126, 0.7152, 0.0722][i] * linear(v), 0);
    while (luminance() < 0.18) parts = parts.map((v) => v + 0.1 * (1 - v));
    return `#${parts.map((v) => Math.round(255 * v).toString(16).padStart(2, "0")).join("")}`;
  };
  const veil = (colour, alpha) => {
    const [r, g, b] = [1, 3, 5].map((i) => parseInt(shade(colour).slice(i, i + 2), 16));
    return `rgba(${r},${g},${b},${alpha})`;
  };
  const siteName = (site) => (data.sites[site] ? data.sites[site].name : site.replace(/^all /, "all sites, "));
  const shownLines = (state) => data.lines.map((_, i) => i).filter((i) => !state.hidden.has(i));
  const metricOf = (state) => data.sets[state.set].metrics[state.metric];

  function baseLayout(share, log, x) {
    const grid = { gridcolor: css("--line"), zerolinecolor: css("--line"), linecolor: css("--soft"), automargin: true };
    return {
      font: { family: "system-ui, sans-serif", size: 13, color: css("--text") },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 62, r: 14, t: 14, b: 58 },
      showlegend: false,
      hovermode: "x unified",
      hoverlabel: { bgcolor: css("--card"), bordercolor: css("--line"), font: { color: css("--text") } },
      dragmode: coarse() ? false : "zoom",
      xaxis: { ...grid, title: { text: escape(x), standoff: 10 } },
      yaxis: { ...grid, type: log ? "log" : "linear", tickformat: share ? "~%" : "~g" },
    };
  }

  // Shares that are all the same get the range of shares: plotly would take one up to twice the value.
  function holdFlat(layout, traces, axis) {
    const values = new Set(traces.flatMap((t) => t[axis]).filter((v) => v !== null));
    if (values.size === 1) layout[`${axis}axis`].range = [-0.02, 1.05];
  }

  function logTicks(layout, traces) {
    if (layout.yaxis.type !== "log") return;
    const values = traces.flatMap((t) => t.y).filter((v) => v > 0);
    const decades = Math.log10(Math.max(...values) / Math.min(...values));
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const few = [-2, -1, 0, 1].flatMap((k) => [1, 2, 5].map((d) => d * 10 ** (Math.floor(Math.log10(high)) + k))).filter((v) => v >= low && v <= high).length < 3;
    const rough = (high - low) / 4, unit = 10 ** Math.floor(Math.log10(rough));
    const even = `L${[1, 2, 5, 10].find((d) => d * unit >= rough) * unit}`;
    layout.yaxis.dtick = decades > 2.5 ? Math.ceil(decades / 7) : few && high > low ? even : "D2";
  }

  // Curves over epochs, thresholds, probe sizes or an axis.
  const curves = {
    controls: (state) => [
      () => choice("metric", Object.entries(data.sets[state.set].metrics).map(([k, m]) => [k, m.label])),
      () => choice("facet", facetsOf(state)),
      () => choice("site", sitesOf(state)),
      () => choice("show", hasTrials(state) ? [["mean", "mean and band"], ["both", "mean and trials"], ["trials", "trials"]] : []),
      () => choice("scale", [["auto", "usual axes"], ["linear", "linear y"], ["log", "logarithmic y"]]),
    ],
    draw(state) {
      const metric = metricOf(state);
      const own = metric.curves.filter((c) => c.f === +state.facet && c.s === state.site && !state.hidden.has(c.l));
      const xs = own.flatMap((c) => c.x);
      const wide = Math.min(...xs) > 0 && Math.max(...xs) / Math.min(...xs) > 50 && state.set !== "epochs";
      const log = state.scale === "auto" ? metric.log : state.scale === "log";
      const traces = own.flatMap((c) => curveTraces(c, state, metric.share));
      const layout = baseLayout(metric.share, log, data.sets[state.set].x);
      layout.xaxis.type = wide ? "log" : "linear";
      if (data.sets[state.set].xshare) layout.xaxis.tickformat = "~%";
      layout.yaxis.title = { text: escape(metric.label) };
      if (metric.share && !log && !data.sets[state.set].stairs) layout.yaxis.rangemode = "tozero";
      if (metric.share && !log) holdFlat(layout, traces, "y");
      if (data.sets[state.set].x === "epoch" && !wide && Math.max(...xs) <= 10) layout.xaxis.dtick = 1;
      if (state.show !== "mean") layout.hovermode = "closest";
      logTicks(layout, traces);
      return { traces, layout, stops: curveStops(own, traces, metric.share, data.sets[state.set]) };
    },
  };

  function curveTraces(c, state, share) {
    const line = data.lines[c.l];
    const traces = [];
    const colour = shade(line.colour);
    const shape = data.sets[state.set].stairs ? "hv" : "linear";
    if (state.show !== "mean" && c.t.length) {
      const x = [], y = [], text = [];
      for (const [seed, lost, values] of c.t) {
        values.forEach((value, i) => { x.push(c.x[i]); y.push(value); text.push(`seed ${seed}${lost ? ", diverged" : ""}`); });
        x.push(null); y.push(null); text.push("");
      }
      traces.push({ x, y, text, type: "scatter", mode: "lines", line: { color: colour, width: 1 }, opacity: state.show === "both" ? 0.4 : 0.8,
        name: escape(line.label), hovertemplate: share ? "%{text}: %{y:.4p}" : "%{text}: %{y:.4~g}" });
    }
    if (state.show !== "trials" || !c.t.length) {
      const known = c.x.map((_, i) => i).filter((i) => c.lo[i] !== null && c.hi[i] !== null);
      if (known.length && c.x.length > 1 && shape === "hv") {
        for (const [side, fill] of [["lo", "none"], ["hi", "tonexty"]]) {
          traces.push({ x: known.map((i) => c.x[i]), y: known.map((i) => c[side][i]), type: "scatter", mode: "lines", fill,
            fillcolor: veil(line.colour, 0.16), line: { width: 0, shape }, hoverinfo: "skip" });
        }
      } else if (known.length && c.x.length > 1) {
        traces.push({ x: [...known, ...known.toReversed()].map((i) => c.x[i]),
          y: [...known.map((i) => c.lo[i]), ...known.toReversed().map((i) => c.hi[i])],
          type: "scatter", mode: "lines", fill: "toself", fillcolor: veil(line.colour, 0.16), line: { width: 0 }, hoverinfo: "skip" });
      }
      traces.push({ x: c.x, y: c.y, type: "scatter", mode: c.x.length > 1 ? "lines+markers" : "markers", marker: { size: 4, color: colour },
        line: { color: colour, width: 2.4, dash: line.dash, shape }, name: escape(line.label), meta: "mean",
        error_y: c.x.length > 1 ? undefined : { array: [c.hi[0] - c.y[0]], arrayminus: [c.y[0] - c.lo[0]], color: colour },
        text: c.x.map((_, i) => spread(c, i, share)), hovertemplate: "%{text}" });
    }
    return traces;
  }

  function spread(c, i, share) {
    const n = Array.isArray(c.n) ? c.n[i] : c.n;
    const band = c.lo[i] === null ? "" : ` [${number(c.lo[i], share)}, ${number(c.hi[i], share)}]`;
    return `${number(c.y[i], share)}${band}, n = ${n}`;
  }

  function curveStops(own, traces, share, { x, xshare }) {
    const places = reduced(own.flatMap((c) => c.x), (value) => value).sort((a, b) => a - b);
    return places.map((place) => ({
      points: traces.flatMap((t, k) => (t.meta === "mean" && t.x.includes(place) ? [{ curveNumber: k, pointNumber: t.x.indexOf(place) }] : [])),
      text: `${x} ${number(place, xshare)}: ` + own.filter((c) => c.x.includes(place))
        .map((c) => `${data.lines[c.l].label} ${spread(c, c.x.indexOf(place), share)}`).join("; "),
    }));
  }

  // A site metric by depth, at one epoch.
  const depth = {
    controls: (state) => [
      () => choice("metric", Object.entries(data.sets.layers.metrics).map(([k, m]) => [k, m.label])),
      () => choice("facet", facetsOf(state)),
      () => choice("scale", [["auto", "usual axes"], ["linear", "linear y"], ["log", "logarithmic y"]]),
      () => slider("epoch", epochsOf(state)),
    ],
    draw(state) {
      const metric = metricOf(state);
      const epochs = epochsOf(state);
      const epoch = epochs[Math.min(+state.epoch, epochs.length - 1)];
      const own = metric.curves.filter((c) => c.f === +state.facet && /^\d+$/.test(c.s) && !state.hidden.has(c.l) && c.x.includes(epoch));
      const kinds = [...new Set(Object.values(data.sites).map((site) => site.kind))];
      const traces = [];
      for (const l of shownLines(state)) {
        for (const kind of kinds) {
          const part = own.filter((c) => c.l === l && data.sites[c.s]?.kind === kind).sort((a, b) => a.s - b.s);
          if (!part.length) continue;
          const at = part.map((c) => c.x.indexOf(epoch));
          const colour = shade(data.lines[l].colour);
          traces.push({ x: part.map((c) => +c.s + 1), y: part.map((c, i) => c.y[at[i]]), type: "scatter", mode: "lines+markers", meta: "mean",
            name: escape(data.lines[l].label), line: { color: colour, width: 2.4, dash: data.lines[l].dash }, marker: { size: 6, color: colour },
            error_y: { array: part.map((c, i) => c.hi[at[i]] - c.y[at[i]]), arrayminus: part.map((c, i) => c.y[at[i]] - c.lo[at[i]]), thickness: 1, width: 3, color: colour },
            text: part.map((c, i) => spread(c, at[i], metric.share)), hovertemplate: "%{text}" });
        }
      }
      const layout = baseLayout(metric.share, state.scale === "auto" ? metric.log : state.scale === "log", "hidden site, input → output");
      layout.yaxis.title = { text: escape(metric.label) };
      layout.xaxis.dtick = Math.ceil(Math.max(1, ...own.map((c) => +c.s + 1)) / 12);
      const sites = reduced(own.map((c) => c.s), (s) => s).sort((a, b) => a - b);
      const stops = sites.map((s) => ({
        points: traces.flatMap((t, k) => (t.x.includes(+s + 1) ? [{ curveNumber: k, pointNumber: t.x.indexOf(+s + 1) }] : [])),
        text: `epoch ${epoch}, ${siteName(s)}: ` + own.filter((c) => c.s === s)
          .map((c) => `${data.lines[c.l].label} ${spread(c, c.x.indexOf(epoch), metric.share)}`).join("; "),
      }));
      logTicks(layout, traces);
      return { traces, layout, stops };
    },
  };

  // A site metric as a heat map, layer by epoch, for one activation.
  const map = {
    controls: (state) => [
      () => choice("metric", Object.entries(data.sets.layers.metrics).map(([k, m]) => [k, m.label])),
      () => choice("line", data.lines.map((line, i) => [String(i), line.label]).filter(([i]) => metricOf(state).curves.some((c) => c.l === +i && c.f === +state.facet))),
      () => choice("facet", facetsOf(state)),
    ],
    noLines: true,
    draw(state) {
      const metric = metricOf(state);
      const own = metric.curves.filter((c) => c.f === +state.facet && c.l === +state.line && /^\d+$/.test(c.s)).sort((a, b) => a.s - b.s);
      const x = [...new Set(own.flatMap((c) => c.x))].sort((a, b) => a - b);
      const scale = metric.log ? Math.log10 : metric.share ? Math.sqrt : (v) => v;
      const back = metric.log ? (v) => 10 ** v : metric.share ? (v) => v * v : (v) => v;
      const cell = (c, place) => (c.x.includes(place) ? c.y[c.x.indexOf(place)] : null);
      const z = own.map((c) => x.map((place) => { const v = cell(c, place); return v === null || (metric.log && v <= 0) ? null : scale(v); }));
      const flat = z.flat().filter((v) => v !== null);
      const [low, high] = metric.share ? [0, 1] : [Math.min(...flat), Math.max(...flat)];
      const ticks = metric.share ? [0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1].map(scale) : [0, 0.25, 0.5, 0.75, 1].map((t) => low + t * (high - low));
      const text = own.map((c) => x.map((place) => (c.x.includes(place) ? spread(c, c.x.indexOf(place), metric.share) : "")));
      const names = own.map((c) => escape(siteName(c.s)));
      const traces = [{ type: "heatmap", x, y: own.map((c) => +c.s + 1), z, text, zmin: low, zmax: high, hovertemplate: "epoch %{x}, site %{y}: %{text}<extra></extra>",
        colorscale: metric.share ? [[0, "#fcfdbf"], [0.25, "#fe9f6d"], [0.5, "#b73779"], [0.75, "#51127c"], [1, "#000004"]] : "Viridis",
        colorbar: { tickvals: ticks, ticktext: ticks.map((t) => number(+back(t).toPrecision(3), metric.share)), title: { text: escape(metric.label), side: "right" }, thickness: 14 } }];
      const layout = baseLayout(false, false, "epoch");
      layout.hovermode = "closest";
      layout.xaxis.range = [x[0] - 0.5, x.at(-1) + 0.5];
      if (x.at(-1) <= 10) layout.xaxis.dtick = 1;
      layout.yaxis = { ...layout.yaxis, autorange: "reversed", tickvals: own.map((c) => +c.s + 1), ticktext: names, tickformat: "" };
      const stops = own.flatMap((c, row) => c.x.map((place, i) => ({
        points: [{ curveNumber: 0, pointNumber: [row, x.indexOf(place)] }],
        text: `${siteName(c.s)}, epoch ${number(place)}: ${spread(c, i, metric.share)}`,
      })));
      return { traces, layout, stops };
    },
  };

  // One dot for each trial.
  const dots = {
    controls: (state) => [
      () => choice("across", Object.entries(data.finals.metrics).map(([k, m]) => [k, m.label])),
      () => choice("up", [["line", "activation"], ...Object.entries(data.finals.metrics).map(([k, m]) => [k, m.label])]),
      () => choice("facet", data.facets.map((title, i) => [String(i), title])),
    ],
    draw(state) {
      const all = data.finals;
      const across = all.metrics[state.across];
      const up = state.up === "line" ? null : all.metrics[state.up];
      const shown = shownLines(state);
      const symbols = { finished: "circle", stuck: "triangle-down", diverged: "x" };
      const rows = all.trial.map((_, i) => i).filter((i) => all.facet[i] === +state.facet && !state.hidden.has(all.line[i]) && across.values[i] !== null);
      const traces = [];
      const stops = [];
      for (const l of shown) {
        const own = rows.filter((i) => all.line[i] === l);
        const place = shown.length - 1 - shown.indexOf(l);
        const text = own.map((i) => `${data.lines[l].label}, seed ${all.seed[i]}, ${all.fate[i]}: ${across.label} ${number(across.values[i], across.share)}` + (up ? `; ${up.label} ${number(up.values[i], up.share)}` : ""));
        own.forEach((_, k) => stops.push({ points: [{ curveNumber: traces.length, pointNumber: k }], text: text[k] }));
        traces.push({ type: "scatter", mode: "markers", x: own.map((i) => across.values[i]),
          y: own.map((i, k) => (up ? up.values[i] : place + (own.length > 1 ? 0.5 * (k / (own.length - 1) - 0.5) : 0))),
          text: text.map(escape), hovertemplate: "%{text}<extra></extra>", name: escape(data.lines[l].label),
          marker: { color: shade(data.lines[l].colour), size: 8, opacity: 0.7, symbol: own.map((i) => symbols[all.fate[i]] || "circle") } });
      }
      if (!up) traces.push(...meanTraces(across, shown, +state.facet));
      const layout = baseLayout(up ? up.share : false, false, across.label);
      layout.hovermode = "closest";
      layout.xaxis.tickformat = across.share ? "~%" : "~g";
      if (across.share) holdFlat(layout, traces, "x");
      if (up?.share) holdFlat(layout, traces, "y");
      if (up) layout.yaxis.title = { text: escape(up.label) };
      else layout.yaxis = { ...layout.yaxis, tickvals: shown.map((_, k) => k), ticktext: shown.map((l) => escape(data.lines[l].label)).reverse(), tickformat: "", range: [-0.6, shown.length - 0.4] };
      return { traces, layout, stops };
    },
  };

  function meanTraces(metric, shown, facet) {
    return metric.means.filter(([f, l]) => f === facet && shown.includes(l)).map(([, l, mean, low, high, n]) => ({
      type: "scatter", mode: "markers", x: [mean], y: [shown.length - 1 - shown.indexOf(l)], name: escape(data.lines[l].label),
      marker: { symbol: "diamond", size: 10, color: css("--card"), line: { width: 2, color: css("--text") } },
      error_x: low === null ? undefined : { type: "data", array: [high - mean], arrayminus: [mean - low], color: css("--text"), thickness: 1.6, width: 5 },
      text: [`${escape(data.lines[l].label)}: mean ${spread({ y: [mean], lo: [low], hi: [high], n }, 0, metric.share)}`], hovertemplate: "%{text}<extra></extra>",
    }));
  }

  const kinds = { curves, depth, map, dots };
  const choice = (name, options) => ({ name, options });
  const slider = (name, values) => ({ name, values });
  const facetsOf = (state) => reduced(metricOf(state).curves, (c) => c.f).map((c) => [String(c.f), data.facets[c.f]]);
  const sitesOf = (state) => reduced(metricOf(state).curves.filter((c) => c.f === +state.facet), (c) => c.s).map((c) => [c.s, siteName(c.s)])
    .sort((a, b) => (b[0].startsWith("all") - a[0].startsWith("all")) || a[0] - b[0]);
  const hasTrials = (state) => metricOf(state).curves.some((c) => c.s === state.site && c.t.length);
  const epochsOf = (state) => reduced(metricOf(state).curves.filter((c) => c.f === +state.facet && /^\d+$/.test(c.s)).flatMap((c) => c.x), (x) => x).sort((a, b) => a - b);

  window.reluexpLive = { kinds, load, shade, data: () => data };
})();

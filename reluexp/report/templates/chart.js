// Puts a chart with its controls in the place of a still picture, and keeps it usable by keyboard.
(() => {
  "use strict";
  const { kinds, load, data, shade } = window.reluexpLive;
  const words = { metric: "shows", facet: "setting", site: "layer", show: "lines", scale: "axes", epoch: "epoch", line: "activation", across: "across", up: "up" };
  const element = (tag, attributes = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), attributes);
    made.append(...children);
    return made;
  };

  class Chart {
    constructor(figure) {
      const view = JSON.parse(figure.dataset.live);
      this.figure = figure;
      this.kind = kinds[view.kind];
      this.state = { facet: "0", site: "", show: "mean", scale: "auto", epoch: "0", line: "0", up: "line", hidden: new Set(), ...view };
      this.controls = element("div", { className: "controls" });
      this.plot = element("div", { className: "plot", tabIndex: 0 });
      this.plot.setAttribute("role", "group");
      this.plot.setAttribute("aria-label", `${figure.dataset.title}: chart; arrow keys read the values`);
      this.readout = element("p", { className: "readout" });
      this.readout.setAttribute("aria-live", "polite");
      this.live = element("div", { className: "live" }, this.controls, this.plot, this.readout);
      this.place = -1;
      this.plot.addEventListener("keydown", (event) => this.walk(event));
    }

    possible() {
      const { set, metric, kind } = this.state;
      if (kind === "dots") return Boolean(data().finals.metrics?.[this.state.across]);
      return Boolean(data().sets[set]?.metrics[metric]);
    }

    start() {
      if (!this.possible()) return;
      this.state.facet = String(data().start); // the config's own setting; a choice that does not have it takes another
      if (this.state.kind === "depth") this.state.epoch = "99999";
      if (this.state.kind === "map") this.state.line = String(data().sets.layers.metrics[this.state.metric].curves.find((c) => c.y.some((v) => v > 0))?.l ?? 0);
      this.figure.querySelector(".still").after(this.live);
      this.figure.classList.add("is-live");
      const still = element("button", { type: "button", className: "quiet", textContent: "still picture" });
      still.setAttribute("aria-pressed", "false");
      still.addEventListener("click", () => {
        const pressed = this.figure.classList.toggle("is-live");
        still.setAttribute("aria-pressed", String(!pressed));
        if (pressed) Plotly.Plots.resize(this.plot);
      });
      this.figure.querySelector(".tools").append(still);
      this.build();
      this.plot.on("plotly_hover", (event) => this.say(event.points.map((p) => `${p.data.name ?? ""} ${p.text ?? ""}`.trim()).join("; ")));
    }

    build() {
      this.controls.replaceChildren();
      for (const make of this.kind.controls(this.state)) {
        const control = make();
        if (control.values) this.addSlider(control);
        else this.addChoice(control);
      }
      if (!this.kind.noLines && data().lines.length > 1) this.addLines();
      this.redraw();
    }

    addChoice({ name, options }) {
      if (!options.length) return;
      if (!options.some(([value]) => value === this.state[name])) this.state[name] = options[0][0];
      if (options.length < 2) return;
      const select = element("select", {}, ...options.map(([value, label]) => element("option", { value, textContent: label })));
      select.value = this.state[name];
      select.dataset.control = name;
      select.addEventListener("change", () => {
        this.state[name] = select.value;
        this.build();
        this.controls.querySelector(`[data-control="${name}"]`)?.focus();
      });
      this.controls.append(element("label", {}, `${words[name]} `, select));
    }

    addSlider({ name, values }) {
      if (values.length < 2) return;
      const range = element("input", { type: "range", min: 0, max: values.length - 1, step: 1 });
      range.value = Math.min(+this.state[name], values.length - 1);
      range.dataset.control = name;
      const output = element("output", { textContent: values[range.value] });
      range.setAttribute("aria-valuetext", `epoch ${values[range.value]}`);
      range.addEventListener("input", () => {
        this.state[name] = range.value;
        output.textContent = values[range.value];
        range.setAttribute("aria-valuetext", `epoch ${values[range.value]}`);
        this.redraw();
      });
      this.controls.append(element("label", {}, `${words[name]} `, range, output));
    }

    addLines() {
      const group = element("fieldset", { className: "lines" }, element("legend", { textContent: "lines" }));
      data().lines.forEach((line, i) => {
        const box = element("input", { type: "checkbox", checked: !this.state.hidden.has(i) });
        box.dataset.line = i;
        box.addEventListener("change", () => {
          if (box.checked) this.state.hidden.delete(i);
          else this.state.hidden.add(i);
          this.redraw();
        });
        const swatch = element("span", { className: "swatch" });
        swatch.style.background = shade(line.colour);
        group.append(element("label", {}, box, swatch, ` ${line.label}`));
      });
      this.controls.append(group);
    }

    redraw() {
      const { traces, layout, stops } = this.kind.draw(this.state);
      this.stops = stops;
      this.place = -1;
      Plotly.react(this.plot, traces, layout, { responsive: true, displayModeBar: false, doubleClick: "reset" });
    }

    walk(event) {
      const step = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
      if (step === undefined || !this.stops.length) return;
      event.preventDefault();
      this.place = Math.max(0, Math.min(this.stops.length - 1, this.place + step));
      const stop = this.stops[this.place];
      if (stop.points.length) Plotly.Fx.hover(this.plot, stop.points);
      this.say(stop.text);
    }

    say(text) {
      this.readout.textContent = text;
    }
  }

  function begin() {
    const figures = [...document.querySelectorAll("figure[data-live]")];
    if (!figures.length || !("DecompressionStream" in window) || !document.getElementById("live-library")) return;
    const charts = [];
    const watcher = new IntersectionObserver((entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        watcher.unobserve(target);
        load().then(() => {
          const chart = new Chart(target);
          chart.start();
          if (chart.live.isConnected) charts.push(chart);
        });
      }
    }, { rootMargin: "200px" });
    figures.forEach((figure) => watcher.observe(figure));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach((chart) => chart.redraw()));
  }

  begin();
})();

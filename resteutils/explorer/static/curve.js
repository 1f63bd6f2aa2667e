// Tab "curve": f over sign and identity, f' beside it.
import {Chart, COLOURS, DASHES, legend, html, short} from "./chart.js";
import {formula, onPath, onNormalValues} from "./estimators.js";
import {defaults, values} from "./state.js";

const LIMIT = 2, GRID = Array.from({length: 401}, (_, i) => -LIMIT + i / 100);
const HEIGHTS = [2.5, 5, 10, 20, 50, 100, 200, 1000];

export function named(spec, p) {
  const shown = spec.fields.filter(field => !field.options).map(field => `${field.name} = ${short(p[field.name])}`);
  return shown.length ? `${spec.label} (${shown.join(", ")})` : spec.label;
}

export function curveTab({data, spec, state}) {
  const common = {x: "latent value z", xlim: [-LIMIT, LIMIT]};
  const hover = x => { for (const chart of charts) chart.cursor(x); read(x); };
  const charts = [
    new Chart({...common, title: "Forward: the surrogate f(z)", y: "f(z)", ylim: [-2, 2], onhover: hover, name: "reste-surrogate"}),
    new Chart({...common, title: "Backward: its derivative f\u2032(z)", y: "f\u2032(z), gain of each gradient", ylim: [-0.5, 5],
      onhover: hover, name: "reste-derivative"}),
  ];
  const key = html("div", {class: "rx-legend"}), said = html("p", {class: "rx-said", role: "status"});
  const readout = html("p", {class: "rx-readout"}, "\u00a0"), about = html("p", {class: "rx-soft"});
  const view = html("div", {}, said, html("div", {class: "rx-charts"}, ...charts.map(chart => chart.figure)), readout, key, about);

  function shown() {
    const s = state(), own = values(s), share = s.progress / 100, now = spec(s.estimator);
    const list = [{spec: now, p: onPath(now, own, share), colour: COLOURS[0], dash: "", width: 3, label: named(now, onPath(now, own, share))}];
    s.compare.forEach((name, i) => {
      if (name === s.estimator) return;
      const other = spec(name);
      // The straight-line control follows ReSTE's own sliders: its slope is the largest of the curve beside it.
      const p = name === "ste_gain" && s.estimator === "reste" ? {o: own.o, t: own.t, m: own.m} : values(s, name) ?? defaults(other);
      const at = onPath(other, p, share);
      const place = 1 + data.estimators.indexOf(other);
      list.push({spec: other, p: at, colour: COLOURS[place % COLOURS.length], dash: DASHES[1 + (place % 3)], width: 2, label: named(other, at)});
    });
    s.pins.forEach((pin, i) => list.push({spec: spec(pin.name), p: pin.p, colour: COLOURS[(3 + i) % COLOURS.length], dash: DASHES[(2 + i) % 4],
      width: 2, label: `pinned: ${named(spec(pin.name), pin.p)}`}));
    return list;
  }

  const lines = (list, which) => list.map((each, i) => ({kind: "line", key: `${each.spec.name}-${i}`, x: GRID,
    y: GRID.map(z => formula(each.spec)[which](z, each.p)), ...each})).reverse();

  function rules(first) {
    const {m, t} = first.p;
    return first.spec.name === "reste" ? [{x: -t}, {x: -m}, {x: m, label: "m"}, {x: t, label: "t"}].map(rule => ({kind: "rule", ...rule})) : [];
  }

  function draw() {
    const list = shown(), first = list[0], forward = lines(list, "f"), backward = lines(list, "d");
    const greys = [{kind: "line", x: [-LIMIT, 0, 0, LIMIT], y: [-1, -1, 1, 1], label: "sign(z)", quiet: true, width: 1.5},
      {kind: "line", x: [-LIMIT, LIMIT], y: [-LIMIT, LIMIT], label: "identity", quiet: true, width: 1.5, dash: "2 3"}];
    const highest = Math.max(...backward.flatMap(line => line.y)), lowest = Math.min(...backward.flatMap(line => line.y));
    const top = HEIGHTS.find(height => height >= highest) ?? highest;
    charts[0].draw([...greys, ...rules(first), ...forward]);
    charts[1].draw([...rules(first), ...backward], {ylim: [lowest > -0.1 * top ? -0.1 * top : -0.5 * top, 1.05 * top]});
    key.replaceChildren(...legend([...forward].reverse()), ...legend(greys));
    const gain = formula(first.spec).d(0, first.p), alone = onNormalValues(first.spec, first.p);
    said.replaceChildren(html("b", {}, first.label), ` at ${state().progress} % of training: a latent value near zero has its gradient multiplied by `,
      html("b", {class: "rx-gain"}, short(gain)), `. On standard normal values e = ${short(alone.error)} a value, s = ${short(alone.instability)}.`);
    about.textContent = first.spec.about;
    if (charts[0].at !== null) read(charts[0].at);
  }

  function read(x) {
    readout.textContent = x === null ? "\u00a0" : `z = ${x.toFixed(3)}   ` + shown().slice(0, 3).map(each =>
      `${each.spec.label}: f = ${short(formula(each.spec).f(x, each.p))}, f\u2032 = ${short(formula(each.spec).d(x, each.p))}`).join("   ");
  }
  return {view, draw, charts};
}

// Tab "trade-off": what the measured runs say. Error, instability and accuracy at each power, and all methods on the plane.
import {Chart, COLOURS, legend, html, short} from "./chart.js";
import {onNormalValues, onPath} from "./estimators.js";
import {values} from "./state.js";

const MEASURES = {
  top1: {title: "Accuracy at each power", y: "top-1, %", name: "accuracy-over-o"},
  error: {title: "Estimating error", y: "e, L2 norm", name: "error-over-o"},
  instability: {title: "Gradient instability", y: "s, variance of |g|", logY: true, name: "instability-over-o"},
};
const mean = list => list.reduce((sum, value) => sum + value, 0) / list.length;
const centre = (name, list) => (name === "instability" ? Math.exp(mean(list.map(Math.log))) : mean(list));

// One group per method (and power): the means over its seeds, only finished runs.
export function grouped(runs) {
  const groups = new Map();
  for (const run of runs) {
    if (run.top1 === null || !(run.error > 0) || !(run.instability > 0)) continue;
    const group = groups.get(run.method) ?? {method: run.method, name: run.name ?? run.method, row: run.row, o: run.o, paired: run.paired, runs: []};
    group.runs.push(run);
    groups.set(run.method, group);
  }
  for (const group of groups.values()) for (const name of Object.keys(MEASURES)) group[name] = centre(name, group.runs.map(run => run[name]));
  return [...groups.values()];
}

// Between two measured powers: straight in log o (and in log s).
export function between(powers, o, name) {
  if (!powers.length) return null;
  const at = Math.min(Math.max(o, powers[0].o), powers.at(-1).o);
  const right = Math.max(powers.findIndex(group => group.o >= at), 1), [a, b] = [powers[right - 1], powers[Math.min(right, powers.length - 1)]];
  if (a.o === b.o) return a[name];
  const share = Math.log(at / a.o) / Math.log(b.o / a.o);
  return name === "instability" ? a[name] * (b[name] / a[name]) ** share : a[name] + share * (b[name] - a[name]);
}

// Cividis-like, from blue (low) to yellow (high): told apart with any colour vision.
function shade(share) {
  const stops = [[0, 34, 78], [87, 93, 109], [165, 156, 116], [254, 232, 56]], place = Math.min(Math.max(share, 0), 1) * 3;
  const i = Math.min(Math.floor(place), 2), part = place - i;
  return `rgb(${stops[i].map((value, k) => Math.round(value + part * (stops[i + 1][k] - value))).join(",")})`;
}

// The budget that most runs have, the larger of equals: a few longer runs are no picture of the powers.
export function usualEpochs(runs) {
  const count = epochs => runs.filter(run => run.epochs === epochs).length;
  return [...new Set(runs.map(run => run.epochs))].sort((a, b) => count(b) - count(a) || b - a)[0] ?? 0;
}

export function tradeoffTab({data, spec, state, set}) {
  const usable = data.runs.filter(run => run.dataset === "cifar10" && run.model === "resnet20" && run.bits === "1/1");
  const epochs = usualEpochs(usable), groups = grouped(usable.filter(run => run.epochs === epochs && !run.changed));
  // One recipe: what an override changed is among the runs of the next tab.
  const powers = groups.filter(group => group.o !== null && !group.paired).sort((a, b) => a.o - b.o);
  const control = groups.find(group => group.row === "ste-gain-clip");
  const say = html("p", {class: "rx-said", role: "status"}), note = html("p", {class: "rx-soft"});
  if (!powers.length) {
    const nothing = "No measured powers here: run make reproduce-figure4 PROFILE=short, or take the repository's results/short.";
    return {view: html("p", {}, nothing), draw() {}, charts: []};
  }
  const hover = o => { for (const chart of overO) chart.cursor(o); read(o); };
  const wide = [0.9, 1.1 * powers.at(-1).o];
  const overO = Object.entries(MEASURES).map(([key, about]) => new Chart({...about, x: "power o at the end of training", logX: true, xlim: wide, ylim: [0, 1], onhover: hover, height: 260}));
  const errors = groups.map(group => group.error), sizes = groups.map(group => group.instability);
  const accuracies = groups.map(group => group.top1), lowest = Math.min(...accuracies), highest = Math.max(...accuracies);
  const plane = new Chart({title: "Every method by error and instability; yellow is accurate", x: "estimating error e (L2 norm)", y: "instability s (variance of |g|)",
    logY: true, xlim: [0.95 * Math.min(...errors), 1.08 * Math.max(...errors)], ylim: [Math.min(...sizes) / 3, Math.max(...sizes) * 3], name: "plane", width: 960, height: 420});
  plane.figure.classList.add("rx-wide");
  const key = html("div", {class: "rx-legend"}), readout = html("p", {class: "rx-readout"}, "\u00a0");
  const scale = html("p", {class: "rx-soft"}, `colour: top-1 from ${lowest.toFixed(1)} % `, html("span", {class: "rx-scale", role: "img", "aria-label": "dark blue is low, yellow is high"}), ` to ${highest.toFixed(1)} %`);
  const view = html("div", {}, say, html("div", {class: "rx-charts"}, ...overO.map(chart => chart.figure), plane.figure), readout, key, scale, note);
  note.textContent = `Points: ${usable.filter(run => run.epochs === epochs && run.top1 !== null && !run.changed).length} finished runs of ResNet-20 at W/A 1/1 on CIFAR-10, ${epochs} epochs, e and s as defined in the paper after the last epoch; between measured powers the read-out is interpolated. Colour of the plane: mean top-1 of the method.`;

  function draw() {
    const s = state(), own = values(s), o = s.estimator === "reste" || s.estimator === "ste_gain" ? own.o : null;
    overO.forEach((chart, i) => {
      const name = Object.keys(MEASURES)[i], seeds = powers.flatMap(group => group.runs.map(run => [group.o, run[name]]));
      const y = [...seeds.map(([, value]) => value), ...(control ? [control[name]] : [])];
      const [low, high] = [Math.min(...y), Math.max(...y)];
      const marks = [
        {kind: "dots", x: seeds.map(([x]) => x), y: seeds.map(([, value]) => value), colour: COLOURS[5], radius: 3, label: "ReSTE, one run"},
        {kind: "line", x: powers.map(group => group.o), y: powers.map(group => group[name]), colour: COLOURS[0], width: 3, label: "ReSTE, mean of its runs", key: `measured-${name}`},
      ];
      if (control) marks.push({kind: "line", x: wide, y: [control[name], control[name]], colour: COLOURS[1], dash: "7 4", label: "straight-line control (slope of o = 3)"});
      if (o !== null) marks.push({kind: "dots", x: [Math.min(o, powers.at(-1).o)], y: [between(powers, o, name)], colour: COLOURS[1], radius: 8, ring: true, label: "the power of the slider", key: "now"});
      chart.draw(marks, {ylim: MEASURES[name].logY ? [low / 2, high * 2] : [low - 0.08 * (high - low), high + 0.08 * (high - low)]});
      if (i === 0) key.replaceChildren(...legend(marks));
    });
    drawPlane(o);
    sentence(o, own);
  }

  function drawPlane(o) {
    const fill = group => shade((group.top1 - lowest) / (highest - lowest));
    const rivals = groups.filter(group => !powers.includes(group));
    const dots = (list, labels, radius) => ({kind: "dots", x: list.map(group => group.error), y: list.map(group => group.instability), fills: list.map(fill), labels, radius});
    const marks = [{kind: "line", x: powers.map(group => group.error), y: powers.map(group => group.instability), colour: COLOURS[0], label: "ReSTE over o"},
      {...dots(powers, powers.map(group => `o = ${group.o}`), 7), above: true}, dots(rivals, rivals.map(group => group.name), 5)];
    if (o !== null) marks.push({kind: "dots", x: [between(powers, o, "error")], y: [between(powers, o, "instability")], colour: COLOURS[1], radius: 11, ring: true, key: "now"});
    plane.draw(marks);
    plane.svg.querySelectorAll("circle").forEach(circle => {  // what a point is, for the mouse
      const group = groups.find(each => Math.abs(plane.px(each.error) - circle.getAttribute("cx")) < 0.01 && Math.abs(plane.py(each.instability) - circle.getAttribute("cy")) < 0.01);
      if (group) circle.append(Object.assign(document.createElementNS("http://www.w3.org/2000/svg", "title"), {textContent: `${group.method}: ${group.top1.toFixed(1)} %, n = ${group.runs.length}`}));
    });
  }

  function sentence(o, own) {
    if (o === null) {
      const s = state(), alone = onNormalValues(spec(s.estimator), onPath(spec(s.estimator), own, s.progress / 100));
      say.textContent = `${spec(s.estimator).label} on standard normal values: e = ${short(alone.error)} a value, s = ${short(alone.instability)}. The slider of o is ReSTE's: choose ReSTE to walk the measured powers.`;
      return;
    }
    const beyond = o > powers.at(-1).o ? `, the largest that was trained` : "";
    const against = control ? ` The straight-line control ends at ${control.top1.toFixed(1)} %.` : "";
    const shownO = Math.min(o, powers.at(-1).o);
    say.replaceChildren("Networks trained to ", html("b", {}, `o = ${short(shownO)}`), `${beyond}: e = ${short(between(powers, o, "error"))}, s = ${short(between(powers, o, "instability"))}, top-1 `,
      html("b", {}, `${between(powers, o, "top1").toFixed(1)} %`), `.${against}`);
  }

  function read(o) {
    readout.textContent = o === null ? "\u00a0" : `o = ${short(o)}   e = ${short(between(powers, o, "error"))}   s = ${short(between(powers, o, "instability"))}   top-1 = ${between(powers, o, "top1").toFixed(2)} %`;
  }
  return {view, draw, charts: [...overO, plane]};
}

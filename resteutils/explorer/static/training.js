// Tab "training": chosen runs of one dataset epoch by epoch and, with a kernel, a small training of the reader's own.
import {Chart, COLOURS, DASHES, legend, html, short} from "./chart.js";

const VIEWS = [
  {title: "Training loss, and test loss dashed", y: "cross-entropy, nats", columns: ["train_loss", "test_loss"]},
  {title: "Accuracy on the test images", y: "top-1, %", columns: ["test_top1"]},
  {title: "Power of the surrogate", y: "o", columns: ["o"]},
  {title: "Estimating error", y: "e, L2 norm", columns: ["error"]},
  {title: "Gradient instability", y: "s, variance of |g|", columns: ["instability"], logY: true},
  {title: "Scale-free spread", y: "std/mean of |g|", columns: ["spread"]},
];
const FIRST = ["ste", "reste", "ste-gain-clip"];  // the paper's pair and its control, each at its first seed

export function firstChoice(runs, dataset) {
  const here = runs.filter(run => run.dataset === dataset);
  const own = here.filter(run => run.own).slice(0, 2).map(run => run.id);
  const pair = FIRST.map(name => here.find(run => run.row === name && run.top1 !== null && !run.changed)).filter(Boolean).map(run => run.id);
  return own.length ? own : pair.length ? pair : here.slice(0, 1).map(run => run.id);
}

// The limits that fit the first two runs; another may leave the chart, but not flatten it.
export function limits(lines, log) {
  const found = lines.map(line => line.y.filter(value => value !== null && Number.isFinite(value) && (!log || value > 0))).filter(list => list.length);
  if (!found.length) return log ? [1e-6, 1] : [0, 1];
  const reach = list => [Math.min(...list), Math.max(...list)];
  const lows = found.map(list => reach(list)[0]), highs = found.map(list => reach(list)[1]).sort((a, b) => a - b);
  const median = highs[Math.floor((highs.length - 1) / 2)];
  if (log) return [Math.min(...lows) / 1.5, Math.min(highs.at(-1), median * 1e4) * 1.5];
  const high = Math.min(highs.at(-1), 2 * Math.abs(median) || highs.at(-1)), low = Math.min(...lows);
  const room = 0.06 * (high - low) || 0.5;
  return [Math.max(low - room, low >= 0 ? 0 : -Infinity), high + room];
}

export function trainingTab({data, state, set, host}) {
  const hover = x => { for (const chart of charts) chart.cursor(x); read(x); };
  const charts = VIEWS.map(about => new Chart({...about, x: "epochs done", xlim: [0.8, 2], ylim: [0, 1], width: 420, height: 260, onhover: hover, name: about.columns[0]}));
  const choice = html("select", {id: "rx-dataset", onchange: () => set({dataset: choice.value, runs: null})});
  const list = html("div", {class: "rx-runs", tabindex: 0, role: "group", "aria-label": "runs to draw"});
  const key = html("div", {class: "rx-legend"}), readout = html("p", {class: "rx-readout"}, "\u00a0");
  const said = html("p", {class: "rx-said", role: "status"});
  const own = ownTraining(host, () => live?.percent ?? 0);
  const view = html("div", {}, own.view, said, html("div", {class: "rx-row"}, html("label", {for: "rx-dataset"}, "dataset"), choice), list, key,
    html("div", {class: "rx-charts"}, ...charts.map(chart => chart.figure)), readout);
  let live = null;

  const runs = () => [...host.ownRuns(), ...data.runs];
  const names = run => `${run.method}, seed ${run.seed}, ${run.epochs} epochs: ${run.top1 === null ? "diverged" : run.top1.toFixed(1) + " %"}`;

  function chosen() {
    const datasets = [...new Set(runs().map(run => run.dataset))];
    if (live && !datasets.includes("digits")) datasets.push("digits");
    const dataset = datasets.includes(state().dataset) ? state().dataset : live ? "digits" : datasets.includes("cifar10") ? "cifar10" : datasets[0] ?? "";
    const here = runs().filter(run => run.dataset === dataset);
    const ids = state().runs?.filter(id => here.some(run => run.id === id)) ?? [];
    return {datasets, dataset, here, ids: state().runs === null ? firstChoice(here, dataset) : ids};
  }

  function draw() {
    const {datasets, dataset, here, ids} = chosen();
    if (choice.dataset.shown !== datasets.join()) {
      choice.replaceChildren(...datasets.map(name => html("option", {value: name}, data.datasets[name] ?? name)));
      choice.dataset.shown = datasets.join();
    }
    choice.value = dataset;
    const wanted = here.map(run => run.id).join();
    if (list.dataset.shown !== wanted) {
      list.replaceChildren(...here.map(run => {
        const box = html("input", {type: "checkbox", value: run.id, onchange: () => set({runs: [...list.querySelectorAll("input:checked")].map(each => each.value)})});
        return html("label", {}, box, names(run));
      }));
      list.dataset.shown = wanted;
    }
    for (const box of list.querySelectorAll("input")) box.checked = ids.includes(box.value);
    const curves = ids.map(id => here.find(run => run.id === id)).map(run => ({label: names(run), history: run.history}));
    if (live && dataset === "digits") curves.push({label: live.label, history: live.history});
    said.textContent = !curves.length ? "No run is chosen." : "";
    let marks = [];
    charts.forEach((chart, k) => {
      const lines = curves.flatMap((curve, i) => VIEWS[k].columns.map((column, place) => ({kind: "line", x: curve.history.epoch ?? [], y: curve.history[column] ?? [],
        colour: COLOURS[i % COLOURS.length], dash: place ? DASHES[1] : i < COLOURS.length ? "" : DASHES[2], label: place ? "" : curve.label, key: column})));
      const last = Math.max(2, ...lines.map(line => line.x.at(-1) ?? 0));
      chart.draw(lines, {xlim: [0.8, last + 0.2], ylim: limits(lines.filter(line => line.label), VIEWS[k].logY)});
      if (k === 0) marks = lines;
    });
    key.replaceChildren(...legend(marks));
  }

  function read(x) {
    if (x === null) { readout.textContent = "\u00a0"; return; }
    const epoch = Math.max(1, Math.round(x));
    readout.textContent = `epoch ${epoch}   ` + charts[1].marks.filter(mark => mark.label).map(mark => `${mark.label.split(":")[0]}: ${short(mark.y[mark.x.indexOf(epoch)])} %`).join("   ");
  }

  function tell(message) {  // from the kernel
    if (message.kind === "training") live = message.live;
    own.tell(message);
    if (message.show) set({dataset: "digits", runs: message.show});
    else draw();
  }
  return {view, draw, charts, tell};
}

function ownTraining(host) {
  if (!host.kernel) {
    return {view: html("p", {class: "rx-soft"}, "To train a network of your own: ", html("code", {}, "make explore"), " opens this page with Python behind it."), tell() {}};
  }
  const number = (id, label, value, high) => [html("label", {for: id}, label), html("input", {id, type: "number", min: id === "rx-seed" ? 0 : 1, max: high, value})];
  const bits = html("select", {id: "rx-bits"}, ...["1/1", "1/32", "32/32"].map(value => html("option", {}, value)));
  const [epochsLabel, epochs] = number("rx-epochs", "epochs", host.epochs, 60), [seedLabel, seed] = number("rx-seed", "seed", 0, 9999);
  const bar = html("progress", {max: 1, value: 0, "aria-label": "training"}), said = html("p", {class: "rx-said", role: "status"});
  const begin = html("button", {type: "button", class: "rx-main", onclick: () => host.send({kind: "train", bits: bits.value, epochs: +epochs.value, seed: +seed.value})}, "Train this");
  const halt = html("button", {type: "button", disabled: true, onclick: () => host.send({kind: "stop"})}, "Stop");
  const view = html("div", {}, html("div", {class: "rx-row"}, html("label", {for: "rx-bits"}, "W/A bits"), bits, epochsLabel, epochs, seedLabel, seed, begin, halt, bar), said);
  function tell(message) {
    if (message.kind === "training") {
      begin.disabled = message.running;
      halt.disabled = !message.running;
      bar.value = message.done;
    }
    if (message.text !== undefined) said.textContent = message.text;
  }
  return {view, tell};
}

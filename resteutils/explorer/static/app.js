// The explorer: one set of controls, four tabs, five steps; with a kernel behind it (anywidget) or without (a page).
import {html, copyText, short} from "./chart.js";
import {onPath} from "./estimators.js";
import {MOST_PINS, freshState, fromLink, setValues, toLink, values, defaults} from "./state.js";
import {curveTab} from "./curve.js";
import {tradeoffTab} from "./tradeoff.js";
import {trainingTab} from "./training.js";
import {insideTab} from "./inside.js";

const TABS = [["curve", "Curve", curveTab], ["tradeoff", "Trade-off", tradeoffTab], ["training", "Training", trainingTab], ["inside", "Inside", insideTab]];
const PRESETS = [["STE (o = 1)", 1], ["paper (o = 3)", 3], ["o = 10", 10], ["sign (o = 100)", 100]];
const NOBODY = {kernel: false, send() {}, ownRuns: () => [], pairs: () => [], epochs: 6};
let explorers = 0;

export function mount(root, data, {link = "", host = NOBODY, changed = () => {}} = {}) {
  const number = ++explorers, id = name => `rx${number}-${name}`;
  let state = fromLink(link, data), timer = null;
  const spec = name => data.estimators.find(each => each.name === name);
  const context = {data, spec, host, state: () => state, set};
  const tabs = {}, panels = {}, buttons = {}, final = () => ({name: state.estimator, ...values(state)});

  function set(change) {
    Object.assign(state, change);
    redraw();
  }

  function redraw() {
    controls.draw();
    for (const [name] of TABS) {
      panels[name].hidden = state.tab !== name;
      buttons[name].setAttribute("aria-selected", state.tab === name);
      buttons[name].tabIndex = state.tab === name ? 0 : -1;
    }
    tab(state.tab).draw();
    changed(toLink(state, data), final());
  }

  function tab(name) {  // made when it is first opened
    if (!tabs[name]) {
      tabs[name] = TABS.find(([key]) => key === name)[2](context);
      panels[name].replaceChildren(tabs[name].view);
    }
    return tabs[name];
  }

  const controls = makeControls(context, id, () => { if (timer) stop(); else play(); });

  function play() {
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (state.progress >= 100) set({progress: 0});
    if (still) { set({progress: Math.min(state.progress + 10, 100)}); return; }  // one step a press, nothing moves by itself
    timer = setInterval(() => {
      if (!root.isConnected) return stop();
      const next = state.progress + controls.speed();
      if (next < 100) return set({progress: Math.round(next)});
      set({progress: 100});
      if (controls.loop()) set({progress: 0}); else stop();
      return undefined;
    }, 80);
    controls.playing(true);
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    controls.playing(false);
  }

  const list = html("div", {class: "rx-tabs", role: "tablist", "aria-label": "views"});
  TABS.forEach(([name, label], i) => {
    buttons[name] = html("button", {type: "button", role: "tab", id: id(`tab-${name}`), "aria-controls": id(`panel-${name}`), onclick: () => set({tab: name}),
      onkeydown: event => {
        const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
        if (!step) return;
        const [other] = TABS[(i + step + TABS.length) % TABS.length];
        set({tab: other});
        buttons[other].focus();
      }}, label);
    panels[name] = html("div", {role: "tabpanel", id: id(`panel-${name}`), "aria-labelledby": id(`tab-${name}`), hidden: true}, "loading \u2026");
    list.append(buttons[name]);
  });
  root.replaceChildren(html("div", {class: "rx"}, steps(data, context), controls.view, list, ...Object.values(panels)));
  redraw();
  return {
    go(text) { state = fromLink(text, data); redraw(); },
    link: () => toLink(state, data),
    state: () => state,
    tell(message) { for (const name of ["training", "inside"]) if (tabs[name] || message.kind === name) tab(name).tell(message); },
    current: () => ({name: state.estimator, ...onPath(spec(state.estimator), values(state), state.progress / 100)}),
    final,
  };
}

function makeControls({data, spec, state, set}, id, toggle) {
  const choice = html("select", {id: id("estimator"), onchange: () => set({estimator: choice.value})}, ...data.estimators.map(each => html("option", {value: each.name}, each.label)));
  const presets = html("div", {class: "rx-row"}), sliders = html("div", {class: "rx-sliders"}), compare = html("div", {class: "rx-row", role: "group", "aria-label": "compare with"});
  const progress = html("input", {id: id("progress"), type: "range", min: 0, max: 100, step: 1, oninput: () => set({progress: +progress.value})});
  const playButton = html("button", {type: "button", onclick: toggle}, "Play"), speed = html("select", {id: id("speed")}, html("option", {value: 1}, "slow"), html("option", {value: 2, selected: true}, "normal"), html("option", {value: 5}, "fast"));
  const loop = html("input", {id: id("loop"), type: "checkbox"}), done = html("output", {for: id("progress")});
  const button = (text, act) => html("button", {type: "button", onclick: act}, text);
  const pin = button("Pin this curve", () => set({pins: [...state().pins, {name: state().estimator, p: onPath(spec(state().estimator), values(state()), state().progress / 100)}].slice(-MOST_PINS)}));
  const clear = button("Clear", () => set({pins: [], compare: []}));
  const reset = button("Reset all", () => set(freshState(data)));
  const share = button("Copy link", async event => {
    const text = toLink(state(), data);
    await copyText(location.protocol === "about:" ? `#${text}` : `${location.href.split("#")[0]}#${text}`);
    event.target.textContent = "Link copied";
    setTimeout(() => { event.target.textContent = "Copy link"; }, 1500);
  });
  const view = html("div", {class: "rx-controls", role: "group", "aria-label": "controls"},
    html("div", {class: "rx-row"}, html("label", {for: id("estimator")}, "estimator"), choice, presets), sliders,
    html("div", {class: "rx-row"}, html("label", {for: id("progress")}, "training, % done"), progress, done, playButton, html("label", {for: id("speed")}, "speed"), speed, html("label", {for: id("loop")}, loop, "loop")),
    html("div", {class: "rx-row"}, html("span", {}, "compare with"), compare), html("div", {class: "rx-row"}, pin, clear, reset, share));
  const made = {};

  function slider(name, field) {
    const key = id(`${name}-${field.name}`), label = html("label", {for: key}, field.label), box = html("div", {class: "rx-slider"});
    const move = value => { const s = state(); setValues(s, spec(name), {[field.name]: value}); set({}); };
    if (field.options) {
      const list = html("select", {id: key, onchange: () => move(list.value)}, ...field.options.map(option => html("option", {}, option)));
      box.append(label, list);
      return {box, draw: value => { list.value = value; }};
    }
    const ends = field.log ? [0, 1, 0.0025] : [field.low, field.high, field.step];
    const onto = value => field.log ? Math.log(value / field.low) / Math.log(field.high / field.low) : value;
    const back = place => field.log ? +(field.low * (field.high / field.low) ** place).toPrecision(3) : place;
    const input = html("input", {id: key, type: "range", min: ends[0], max: ends[1], step: ends[2], oninput: () => move(back(+input.value))});
    const typed = html("input", {type: "number", min: field.low, max: field.high, step: "any", "aria-label": `${field.name}, as a number`, onchange: () => move(+typed.value)});
    box.append(label, input, typed);
    return {box, draw: value => { input.value = onto(value); typed.value = +value.toPrecision(6); input.setAttribute("aria-valuetext", `${field.name} ${short(value)}`); }};
  }

  function draw() {
    const s = state(), own = values(s), now = spec(s.estimator);
    choice.value = s.estimator;
    if (sliders.dataset.shown !== s.estimator) {
      made[s.estimator] ??= now.fields.map(field => [field.name, slider(s.estimator, field)]);
      sliders.replaceChildren(...made[s.estimator].map(([, each]) => each.box));
      sliders.dataset.shown = s.estimator;
      const offered = now.fields.some(field => field.name === "o") ? PRESETS.map(([text, o]) => [text, {...defaults(now), o}]) : now.fields.length ? [["defaults", defaults(now)]] : [];
      presets.replaceChildren(...offered.map(([text, p]) => button(text, () => { setValues(state(), now, p); set({progress: 100}); })));
    }
    for (const [name, each] of made[s.estimator]) each.draw(own[name]);
    progress.value = s.progress;
    done.value = `${s.progress} %`;
    compare.replaceChildren(...data.estimators.filter(each => each.name !== s.estimator).map(each => {
      const box = html("input", {type: "checkbox", checked: s.compare.includes(each.name), onchange: event => {
        const rest = state().compare.filter(name => name !== each.name);
        set({compare: event.target.checked ? [...rest, each.name] : rest});
        [...compare.querySelectorAll("label")].find(other => other.textContent === each.label)?.querySelector("input").focus();
      }});
      return html("label", {}, box, each.label);
    }));
  }
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const playing = on => { playButton.textContent = on ? "Pause" : still.matches ? "Step 10 %" : "Play"; };
  playing(false);
  still.addEventListener?.("change", () => playing(false));
  return {view, draw, speed: () => +speed.value, loop: () => loop.checked, playing};
}

// Five steps: a sentence, an action, a thing to see.
function steps(data, {state, set, spec}) {
  const power = o => { setValues(state(), spec("reste"), {...defaults(spec("reste")), o}); };
  const go = (o, change) => () => { power(o); set({estimator: "reste", progress: 100, ...change}); };
  const usable = data.runs.filter(run => run.dataset === "cifar10" && !run.paired && !run.changed && run.top1 !== null);
  const runs = names => names.map(name => usable.find(run => run.row === name)).filter(Boolean).map(run => run.id);
  const entries = [
    ["Sign has no slope to train with, so gradients pass through a straight line instead.", "Set o = 1", go(1, {tab: "curve", compare: []}), "The right chart: every gradient passes unchanged up to t."],
    ["ReSTE bends that line towards sign with one number, the power o.", "Set o = 3", go(3, {tab: "curve", compare: []}), "The curve lies closer to sign, and near zero gradients are multiplied by 4.64."],
    ["Closer to sign means a smaller error e and wilder gradients s.", "See the trade-off", go(5, {tab: "tradeoff"}), "The ring: e falls and s rises from o = 1 to 5; accuracy is highest between."],
    ["Too large a power breaks the training.", "Set o = 10 and see the loss turn", go(10, {tab: "training", dataset: "cifar10", runs: runs(["reste", "resnet20-o10"])}), "The loss of o = 10 turns around while its power grows; that of o = 3 falls on."],
    ["Is it the curve that helps? A straight line with ReSTE's clip and its largest slope is the control.", "Show the control", go(3, {tab: "tradeoff", compare: ["ste_gain"]}), "The dashed line: at 10 epochs the control leads STE as ReSTE does."],
  ];
  const list = html("ol", {class: "rx-steps"}, ...entries.map(([sentence, action, act, see]) => html("li", {}, html("span", {}, sentence + " "),
    html("button", {type: "button", onclick: act}, action), html("span", {class: "rx-soft"}, " " + see))));
  return html("details", {class: "rx-tour"}, html("summary", {}, "ReSTE in five minutes: five steps"), list);
}

// anywidget's entry. The kernel keeps the link of the state, starts trainings and looks into networks.
function render({model, el}) {
  const style = document.createElement("div");
  let own = model.get("own_runs"), offered = model.get("pairs");
  const host = {kernel: true, epochs: model.get("epochs"), ownRuns: () => own, pairs: () => offered,
    send(message) {
      model.save_changes();
      const silence = {kind: message.kind === "inside" ? "inside" : "training", running: false, done: 0, live: null,
        text: "The kernel does not answer: after a restart, run the cell again. Everything else on this page still works."};
      clearTimeout(host.waiting);
      if (model.comm_live === false) { app.tell(silence); return; }
      host.waiting = setTimeout(() => app.tell(silence), 8000);  // the kernel says at once that it has heard
      model.send(message);
    }};
  el.append(style);
  const app = mount(style, JSON.parse(model.get("data")), {link: model.get("link"), host, changed: (text, final) => {
    model.set({link: text, estimator: final});
    clearTimeout(host.timer);
    host.timer = setTimeout(() => model.save_changes(), 200);
  }});
  model.on("msg:custom", message => {
    clearTimeout(host.waiting);
    if (message.kind !== "heard") app.tell(message);
  });
  model.on("change:own_runs", () => { own = model.get("own_runs"); offered = model.get("pairs"); });
  model.on("change:pairs", () => { offered = model.get("pairs"); });
  model.on("change:link", () => { if (model.get("link") !== app.link()) app.go(model.get("link")); });
  el.explorer = app;
}
export default {render};

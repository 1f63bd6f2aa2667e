// What the reader has chosen, as one plain object, and as the text of a link.
export function freshState(data) {
  return {tab: "curve", estimator: "reste", values: {}, progress: 100, compare: ["ste_gain"], pins: [], dataset: "", runs: null,
    image: 0, layer: 0, own: Object.fromEntries(data.estimators.map(spec => [spec.name, defaults(spec)]))};
}

export const defaults = spec => Object.fromEntries(spec.fields.map(field => [field.name, field.default]));

export const values = (state, name = state.estimator) => state.own[name];

export const MOST_PINS = 5;
const KEPT = ["tab", "estimator", "progress", "compare", "pins", "dataset", "runs", "image", "layer"];

export function toLink(state, data) {
  const changed = {};
  for (const spec of data.estimators) {
    const moved = spec.fields.filter(field => state.own[spec.name][field.name] !== field.default);
    if (moved.length) changed[spec.name] = Object.fromEntries(moved.map(field => [field.name, state.own[spec.name][field.name]]));
  }
  const fresh = freshState(data), kept = {};
  for (const key of KEPT) if (JSON.stringify(state[key]) !== JSON.stringify(fresh[key])) kept[key] = state[key];
  if (Object.keys(changed).length) kept.values = changed;
  return Object.keys(kept).length ? `explorer=${encodeURIComponent(JSON.stringify(kept))}` : "";
}

// A damaged link, or one to what is not here, gives the fresh state in its place.
export function fromLink(text, data) {
  const state = freshState(data), found = /explorer=([^&]*)/.exec(text ?? "");
  if (!found) return state;
  let kept;
  try {
    kept = JSON.parse(decodeURIComponent(found[1]));
  } catch {
    return state;
  }
  if (kept === null || typeof kept !== "object") return state;
  const known = new Map(data.estimators.map(spec => [spec.name, spec]));
  for (const key of KEPT) if (key in kept && (state[key] === null || (kept[key] !== null && typeof kept[key] === typeof state[key]))) state[key] = kept[key];
  for (const [name, chosen] of Object.entries(kept.values ?? {})) {
    if (known.has(name)) setValues(state, known.get(name), chosen);
  }
  if (!known.has(state.estimator)) state.estimator = "reste";
  if (!["curve", "tradeoff", "training", "inside"].includes(state.tab)) state.tab = "curve";
  state.progress = Math.round(Math.min(Math.max(state.progress, 0), 100));
  for (const key of ["image", "layer"]) state[key] = Math.max(Math.trunc(state[key]), 0);
  state.compare = Array.isArray(state.compare) ? [...new Set(state.compare)].filter(name => known.has(name)) : [];
  state.pins = (Array.isArray(state.pins) ? state.pins : []).filter(pin => known.has(pin?.name)).slice(-MOST_PINS).map(pin => {
    const own = {own: {[pin.name]: defaults(known.get(pin.name))}};
    setValues(own, known.get(pin.name), pin.p);
    return {name: pin.name, p: own.own[pin.name]};
  });
  if (state.runs !== null && !Array.isArray(state.runs)) state.runs = null;
  return state;
}

// Set parameters within their bounds; a field that must stay below another (m below t) stops one step short of it.
export function setValues(state, spec, chosen) {
  if (chosen === null || typeof chosen !== "object") return;
  const p = {...state.own[spec.name]};
  for (const field of spec.fields) {
    if (!(field.name in chosen)) continue;
    const value = chosen[field.name];
    if (field.options) { if (field.options.includes(value)) p[field.name] = value; continue; }
    if (typeof value !== "number" || Number.isNaN(value)) continue;
    const within = +Math.min(Math.max(value, field.low), field.high).toPrecision(6);
    p[field.name] = field.whole ? Math.round(within) : within;
  }
  for (const field of spec.fields) {
    if (!field.below || p[field.name] < p[field.below]) continue;
    const above = spec.fields.find(other => other.name === field.below);
    if (field.below in chosen && !(field.name in chosen)) p[field.below] = +Math.min(p[field.name] + above.step, above.high).toPrecision(6);
    else p[field.name] = +(p[field.below] - field.step).toPrecision(6);
  }
  state.own[spec.name] = p;
}

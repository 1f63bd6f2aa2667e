// The estimators' formulas in the page. The Python classes are the source; tests/explorer/test_module.py holds the two
// together at 1e-12. Each entry: f(z, p), the surrogate; d(z, p), its derivative; at(p, progress), its path.
const sigmoid = x => 1 / (1 + Math.exp(-x));
const sech2 = x => 4 * sigmoid(2 * x) * sigmoid(-2 * x);
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
const sinc = x => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
const logSpaced = (first, last, share) => first * (last / first) ** share;
const PATHS = {cosine: share => 1 - Math.cos((Math.PI / 2) * share), linear: share => share};
const powerAt = (p, share, path) => ({...p, o: 1 + PATHS[path](share) * (p.o - 1)});
const plateau = p => p.m ** ((1 - p.o) / p.o);
const dsqSlope = p => Math.log(2 / p.alpha - 1) / (p.u - p.l);
const swish = (z, p) => clamp(p.beta * z, -60, 60);

export const FORMULAS = {
  reste: {
    f: (z, p) => { const a = Math.abs(z);
      return Math.sign(z) * (a > p.t ? 1 : a > p.m ? a ** (1 / p.o) : plateau(p) * a); },
    d: (z, p) => { const a = Math.abs(z);
      return a > p.t ? 0 : a <= p.m ? plateau(p) : a ** ((1 - p.o) / p.o) / p.o; },
    at: (p, share) => powerAt(p, share, p.path),
  },
  ste: {f: (z, p) => clamp(z, -p.clip, p.clip), d: (z, p) => (Math.abs(z) > p.clip ? 0 : 1)},
  ste_gain: {
    f: (z, p) => plateau(p) * clamp(z, -p.t, p.t),
    d: (z, p) => (Math.abs(z) > p.t ? 0 : plateau(p)),
    at: (p, share) => powerAt(p, share, "cosine"),
  },
  approx_sign: {
    f: z => { const x = clamp(z, -1, 1); return x * (2 - Math.abs(x)); },
    d: z => Math.max(2 - 2 * Math.abs(z), 0),
  },
  dsq: {
    f: (z, p) => Math.tanh(dsqSlope(p) * (clamp(z, p.l, p.u) - (p.l + p.u) / 2)) / (1 - p.alpha),
    d: (z, p) => { const k = dsqSlope(p);
      return z < p.l || z > p.u ? 0 : (k / (1 - p.alpha)) * sech2(k * (z - (p.l + p.u) / 2)); },
  },
  ede: {
    f: (z, p) => Math.max(1 / p.t, 1) * Math.tanh(p.t * z),
    d: (z, p) => Math.max(1 / p.t, 1) * p.t * sech2(p.t * z),
    at: (p, share) => ({...p, t: logSpaced(p.t_min, p.t, share)}),
  },
  fda: {
    f: (z, p) => { const x = clamp(z, -1, 1); let sum = 0;
      for (let k = 1; k <= 2 * p.n + 1; k += 2) sum += Math.sin(k * p.w * x) / k;
      return (4 / Math.PI) * sum; },
    d: (z, p) => { const x = (z * p.w) / Math.PI, terms = p.n + 1;
      return Math.abs(z) > 1 ? 0 : ((4 / Math.PI) * p.w * terms * sinc(2 * terms * x)) / sinc(x); },
    at: (p, share) => ({...p, n: p.n_min + Math.floor((p.n - p.n_min) * share)}),
  },
  rbnn: {
    f: (z, p) => { const t = Math.max(p.t, p.floor), x = clamp(t * z, -Math.SQRT2, Math.SQRT2);
      return Math.max(1 / t, 1) * x * (Math.SQRT2 - Math.abs(x) / 2); },
    d: (z, p) => { const t = Math.max(p.t, p.floor);
      return Math.max(1 / t, 1) * t * Math.max(Math.SQRT2 - t * Math.abs(z), 0); },
    at: (p, share) => ({...p, t: logSpaced(p.t_min, p.t, share)}),
  },
  swish_sign: {
    f: (z, p) => { const x = swish(z, p); return 2 * sigmoid(x) * (1 + x * sigmoid(-x)) - 1; },
    d: (z, p) => { const x = swish(z, p);
      return p.beta * (2 - x * Math.tanh(x / 2)) * 2 * sigmoid(x) * sigmoid(-x); },
  },
};

// An estimator of the reader's own has no formula here: Python sends its values at the defaults, on an even grid.
export function tabulated({low, high, f, d}) {
  const between = values => z => {
    const place = clamp(((z - low) / (high - low)) * (values.length - 1), 0, values.length - 1);
    const left = Math.min(Math.floor(place), values.length - 2);
    return values[left] + (place - left) * (values[left + 1] - values[left]);
  };
  return {f: between(f), d: between(d)};
}

export const formula = spec => FORMULAS[spec.name] ?? tabulated(spec.table);

// The parameters at a share of the way through training; exactly `p` at its end.
export const onPath = (spec, p, share) => (share >= 1 ? p : (formula(spec).at ?? (same => same))(p, share));

// Half of the quantiles of the standard normal (every estimator is symmetric but DSQ, so both signs are used).
const QUANTILES = (() => {
  const count = 500, values = [], step = 0.001, density = z => Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI);
  let share = 0, z = 0;
  for (let i = 0; i < count; i++) {
    while (share < (i + 0.5) / (2 * count)) { share += step * density(z + step / 2); z += step; }
    values.push(z - step / 2);
  }
  return values;
})();

// Estimating error per value, instability and spread of |f'| on standard normal values: the formula alone.
export function onNormalValues(spec, p) {
  const {f, d} = formula(spec);
  let error = 0, sum = 0, squares = 0;
  for (const size of QUANTILES) for (const z of [-size, size]) {
    error += (Math.sign(z) - f(z, p)) ** 2;
    const g = Math.abs(d(z, p));
    sum += g;
    squares += g * g;
  }
  const n = 2 * QUANTILES.length, mean = sum / n, variance = Math.max(squares / n - mean * mean, 0);
  return {error: Math.sqrt(error / n), instability: variance, spread: Math.sqrt(variance) / mean};
}

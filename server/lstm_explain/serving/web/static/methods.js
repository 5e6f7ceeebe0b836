// The methods, as lstm_explain/v1/method.proto has them in JSON.

const number = (key, label, limits = {}) => ({ key, label, kind: "number", ...limits });
const whole = (key, label, initial, least = 1) => ({ key, label, kind: "number", step: 1, min: least, initial });
const choice = (key, label, options) => ({ key, label, kind: "choice", options });

const BASELINE = "score of the baseline";
const TOGETHER = "what steps do together";

// held: what the ledger's `absorbed` and `residual` are under the method.
export const METHODS = [
  {
    key: "lrp",
    name: "LRP",
    hint: "passes the prediction back, layer by layer; accounts for all of it",
    held: ["kept by biases and stabilisers", "rounding"],
    parameters: [
      choice("productRule", "Gate and signal", [
        ["PRODUCT_RULE_ALL", "all to the signal"],
        ["PRODUCT_RULE_HALF", "half each"],
        ["PRODUCT_RULE_PROP", "in proportion"],
        ["PRODUCT_RULE_ABS", "in absolute proportion"],
      ]),
      number("epsilon", "Stabiliser ε", { min: 0, step: "any", initial: 0.001 }),
      number("biasFactor", "Bias factor", { min: 0, max: 1, step: "any", initial: 0 }),
    ],
  },
  {
    key: "gradientTimesInput",
    name: "Gradient × input",
    hint: "derivatives times the input",
    held: ["kept by nothing", "what is not linear"],
    parameters: [],
  },
  {
    key: "integratedGradients",
    name: "Integrated gradients",
    hint: "gradients along the way from a baseline",
    held: [BASELINE, "error of the integral (convergence delta)"],
    parameters: [whole("steps", "Steps", 50)],
  },
  {
    key: "occlusion",
    name: "Occlusion",
    hint: "what the prediction loses without a step",
    held: [BASELINE, TOGETHER],
    parameters: [
      whole("window", "Window, in steps", 1),
      choice("of", "Fall of", [["QUANTITY_SCORE", "the score"], ["QUANTITY_PROBABILITY", "the probability"]]),
    ],
  },
  {
    key: "shapleySampling",
    name: "Shapley values",
    hint: "fair shares over random orders",
    held: [BASELINE, "rounding"],
    parameters: [
      whole("permutations", "Orders", 25),
      whole("seed", "Seed", 0, 0),
      choice("over", "Between", [
        ["PLAYERS_STEPS", "time steps"],
        ["PLAYERS_FEATURES", "features"],
        ["PLAYERS_CELLS", "features of every step"],
      ]),
    ],
  },
  {
    key: "contextualDecomposition",
    name: "Contextual decomposition",
    hint: "parts of an LSTM's state, followed forward",
    held: ["constant of the readout", TOGETHER],
    parameters: [],
  },
  {
    key: "gradient",
    name: "Gradient",
    hint: "derivatives alone; no shares",
    held: ["kept by nothing", "not explained: derivatives are no shares"],
    parameters: [],
  },
  {
    key: "smoothGrad",
    name: "SmoothGrad",
    hint: "gradients averaged over noise; no shares",
    held: ["kept by nothing", "not explained: derivatives are no shares"],
    parameters: [
      whole("samples", "Noisy copies", 25),
      number("noise", "Noise, as a share of the range", { min: 0, step: "any", initial: 0.1 }),
      whole("seed", "Seed", 0, 0),
    ],
  },
];

/** The method of a message. */
export function methodOf(message) {
  return METHODS.find((method) => method.key in (message ?? {}));
}

/** A method's parameters in words: as they were used. */
export function described(message) {
  const method = methodOf(message);
  if (!method) return "";
  const used = message[method.key];
  return method.parameters
    .filter((parameter) => used[parameter.key] !== undefined)
    .map((parameter) => `${parameter.label} ${shown(parameter, used[parameter.key])}`)
    .join(", ");
}

/** The ledger's entries in order, with what they hold. */
export function entries(method) {
  const [absorbed, residual] = method?.held ?? ["absorbed", "residual"];
  return [
    ["inputs", "the inputs"],
    ["initialStates", "constant initial states"],
    ["absorbed", absorbed],
    ["residual", residual],
  ];
}

function shown(parameter, value) {
  return parameter.options?.find(([key]) => key === value)?.[1] ?? value;
}

// Generated from proto/lstm_explain/v1/method.proto and the server's registry by `make proto`; do not edit.

/**
 * The methods, as lstm_explain/v1/method.proto has them in JSON; last those whose numbers are no shares of
 * the explained value. held: what the ledger's `absorbed` and `residual` are under the method. unit: what
 * it gives one value to, where no parameter says it. long: it runs the model many times.
 */
export const METHODS = [
  {
    key: "lrp",
    name: "LRP",
    hint: "passes the prediction back, layer by layer; accounts for all of it",
    held: ["kept by biases and stabilisers", "rounding"],
    parameters: [
      {
        key: "productRule",
        label: "Gate and signal",
        kind: "choice",
        options: [
          ["PRODUCT_RULE_ALL", "all to the signal"],
          ["PRODUCT_RULE_HALF", "half each"],
          ["PRODUCT_RULE_PROP", "in proportion"],
          ["PRODUCT_RULE_ABS", "in absolute proportion"],
          ["PRODUCT_RULE_ATTN", "all to the signal; in attention, half each"],
        ],
      },
      { key: "epsilon", label: "Stabiliser ε", kind: "number", step: "any", min: 0, optional: true },
      { key: "biasFactor", label: "Bias factor", kind: "number", step: "any", min: 0, max: 1, initial: 0 },
      { key: "stabiliser", label: "Stabiliser β", kind: "number", step: "any", min: 0, optional: true, placeholder: "0.1" },
      { key: "cellStabiliser", label: "Stabiliser β of the cell", kind: "number", step: "any", min: 0, optional: true, placeholder: "0" },
      { key: "layerStabiliser", label: "Stabiliser β of other layers", kind: "number", step: "any", min: 0, optional: true, placeholder: "0.02" },
      { key: "ceiling", label: "Ceiling of growth", kind: "number", step: "any", min: 1, optional: true, placeholder: "10" },
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
    held: ["score of the baseline", "error of the integral (convergence delta)"],
    long: true,
    parameters: [
      { key: "steps", label: "Steps", kind: "number", step: 1, min: 1, initial: 50 },
      { key: "maxSteps", label: "Steps at most", kind: "number", step: 1, min: 1, initial: 500 },
    ],
  },
  {
    key: "occlusion",
    name: "Occlusion",
    hint: "what the prediction loses without a step (feature, cell)",
    held: ["score of the baseline", "what the units do together"],
    long: true,
    parameters: [
      { key: "window", label: "Window, in steps", kind: "number", step: 1, min: 1, initial: 1 },
      {
        key: "of",
        label: "Fall of",
        kind: "choice",
        options: [
          ["QUANTITY_SCORE", "the score"],
          ["QUANTITY_PROBABILITY", "the probability"],
        ],
      },
      {
        key: "over",
        label: "Replaced",
        kind: "choice",
        options: [
          ["PLAYERS_STEPS", "time steps"],
          ["PLAYERS_FEATURES", "features"],
          ["PLAYERS_CELLS", "features of every step"],
        ],
      },
    ],
  },
  {
    key: "shapleySampling",
    name: "Shapley values",
    hint: "fair shares over all or over random orders",
    held: ["score of the baseline", "rounding"],
    long: true,
    parameters: [
      { key: "permutations", label: "Orders", kind: "number", step: 1, min: 1, initial: 25 },
      { key: "seed", label: "Seed", kind: "number", step: 1, min: 0, initial: 0 },
      {
        key: "over",
        label: "Between",
        kind: "choice",
        options: [
          ["PLAYERS_STEPS", "time steps"],
          ["PLAYERS_FEATURES", "features"],
          ["PLAYERS_CELLS", "features of every step"],
        ],
      },
      { key: "standardError", label: "Until the standard error is", kind: "number", step: "any", min: 0, optional: true },
      { key: "maxPermutations", label: "Orders at most", kind: "number", step: 1, min: 1, initial: 1000 },
      { key: "exactPlayers", label: "Exact up to players", kind: "number", step: 1, min: 0, initial: 10 },
    ],
  },
  {
    key: "contextualDecomposition",
    name: "Contextual decomposition",
    hint: "parts of an LSTM's state, followed forward",
    held: ["constant of the readout", "what steps do together"],
    long: true,
    unit: "steps",
    parameters: [],
  },
  {
    key: "gradientShap",
    name: "GradientSHAP",
    hint: "gradients at random points between baselines and the input",
    held: ["score of the baseline", "error of the sampling"],
    long: true,
    parameters: [
      { key: "samples", label: "Points", kind: "number", step: 1, min: 1, initial: 50 },
      { key: "seed", label: "Seed", kind: "number", step: 1, min: 0, initial: 0 },
    ],
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
    long: true,
    parameters: [
      { key: "samples", label: "Noisy copies", kind: "number", step: 1, min: 1, initial: 25 },
      { key: "noise", label: "Noise, as a share of the range", kind: "number", step: "any", min: 0, initial: 0.1 },
      { key: "seed", label: "Seed", kind: "number", step: 1, min: 0, initial: 0 },
    ],
  },
  {
    key: "counterfactual",
    name: "Counterfactual",
    hint: "the fewest steps (features, cells) whose replacement turns the prediction",
    held: ["margin of the changed input", "what the replaced units do together"],
    long: true,
    parameters: [
      { key: "most", label: "Replace at most", kind: "number", step: 1, min: 0, initial: 0 },
      { key: "maxRuns", label: "Runs to put units back", kind: "number", step: 1, min: 0, initial: 1000 },
      { key: "threshold", label: "Threshold", kind: "number", step: "any", min: -1e+12, max: 1e+12, optional: true },
      {
        key: "over",
        label: "Replaced",
        kind: "choice",
        options: [
          ["PLAYERS_STEPS", "time steps"],
          ["PLAYERS_FEATURES", "features"],
          ["PLAYERS_CELLS", "features of every step"],
        ],
      },
    ],
  },
];

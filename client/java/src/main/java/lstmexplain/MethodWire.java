// Generated from proto/lstm_explain/v1/method.proto and the server's registry by `make proto`; do not edit.
package lstmexplain;

/** Methods, and what their parameters are made of, to and from their messages. */
final class MethodWire {
  private MethodWire() {}

  static lstmexplain.v1.Rule encode(Method.Rule value) {
    var out = lstmexplain.v1.Rule.newBuilder();
    if (value instanceof Method.Rule.Epsilon m) {
      write(m, out.getEpsilonBuilder());
    } else if (value instanceof Method.Rule.Gamma m) {
      write(m, out.getGammaBuilder());
    } else if (value instanceof Method.Rule.ZPlus) {
      out.getZPlusBuilder();
    } else if (value instanceof Method.Rule.AlphaBeta m) {
      write(m, out.getAlphaBetaBuilder());
    } else if (value instanceof Method.Rule.Flat) {
      out.getFlatBuilder();
    } else if (value instanceof Method.Rule.ZBox m) {
      write(m, out.getZBoxBuilder());
    } else if (value instanceof Method.Rule.WSquare) {
      out.getWSquareBuilder();
    }
    return out.build();
  }

  /** Null where nothing is set, or something that this client does not know. */
  static Method.Rule decode(lstmexplain.v1.Rule message) {
    return switch (message.getRuleCase()) {
      case EPSILON -> read(message.getEpsilon());
      case GAMMA -> read(message.getGamma());
      case Z_PLUS -> new Method.Rule.ZPlus();
      case ALPHA_BETA -> read(message.getAlphaBeta());
      case FLAT -> new Method.Rule.Flat();
      case Z_BOX -> read(message.getZBox());
      case W_SQUARE -> new Method.Rule.WSquare();
      case RULE_NOT_SET -> null;
    };
  }

  private static void write(Method.Rule.Epsilon m, lstmexplain.v1.Rule.Epsilon.Builder body) {
    if (m.epsilon() != null) {
      body.setEpsilon(m.epsilon());
    }
  }

  private static Method.Rule.Epsilon read(lstmexplain.v1.Rule.Epsilon body) {
    return new Method.Rule.Epsilon(
        body.hasEpsilon() ? body.getEpsilon() : null);
  }

  private static void write(Method.Rule.Gamma m, lstmexplain.v1.Rule.Gamma.Builder body) {
    if (m.gamma() != null) {
      body.setGamma(m.gamma());
    }
  }

  private static Method.Rule.Gamma read(lstmexplain.v1.Rule.Gamma body) {
    return new Method.Rule.Gamma(
        body.hasGamma() ? body.getGamma() : null);
  }

  private static void write(Method.Rule.AlphaBeta m, lstmexplain.v1.Rule.AlphaBeta.Builder body) {
    if (m.alpha() != null) {
      body.setAlpha(m.alpha());
    }
    if (m.beta() != null) {
      body.setBeta(m.beta());
    }
  }

  private static Method.Rule.AlphaBeta read(lstmexplain.v1.Rule.AlphaBeta body) {
    return new Method.Rule.AlphaBeta(
        body.hasAlpha() ? body.getAlpha() : null,
        body.hasBeta() ? body.getBeta() : null);
  }

  private static void write(Method.Rule.ZBox m, lstmexplain.v1.Rule.ZBox.Builder body) {
    body.setLow(m.low());
    body.setHigh(m.high());
  }

  private static Method.Rule.ZBox read(lstmexplain.v1.Rule.ZBox body) {
    return new Method.Rule.ZBox(
        body.getLow(),
        body.getHigh());
  }

  static lstmexplain.v1.Method encode(Method value) {
    var out = lstmexplain.v1.Method.newBuilder();
    if (value instanceof Method.Lrp m) {
      write(m, out.getLrpBuilder());
    } else if (value instanceof Method.Gradient) {
      out.getGradientBuilder();
    } else if (value instanceof Method.GradientTimesInput) {
      out.getGradientTimesInputBuilder();
    } else if (value instanceof Method.IntegratedGradients m) {
      write(m, out.getIntegratedGradientsBuilder());
    } else if (value instanceof Method.SmoothGrad m) {
      write(m, out.getSmoothGradBuilder());
    } else if (value instanceof Method.Occlusion m) {
      write(m, out.getOcclusionBuilder());
    } else if (value instanceof Method.ShapleySampling m) {
      write(m, out.getShapleySamplingBuilder());
    } else if (value instanceof Method.ContextualDecomposition m) {
      write(m, out.getContextualDecompositionBuilder());
    } else if (value instanceof Method.GradientShap m) {
      write(m, out.getGradientShapBuilder());
    } else if (value instanceof Method.Counterfactual m) {
      write(m, out.getCounterfactualBuilder());
    }
    return out.build();
  }

  /** Null where nothing is set, or something that this client does not know. */
  static Method decode(lstmexplain.v1.Method message) {
    return switch (message.getMethodCase()) {
      case LRP -> read(message.getLrp());
      case GRADIENT -> new Method.Gradient();
      case GRADIENT_TIMES_INPUT -> new Method.GradientTimesInput();
      case INTEGRATED_GRADIENTS -> read(message.getIntegratedGradients());
      case SMOOTH_GRAD -> read(message.getSmoothGrad());
      case OCCLUSION -> read(message.getOcclusion());
      case SHAPLEY_SAMPLING -> read(message.getShapleySampling());
      case CONTEXTUAL_DECOMPOSITION -> read(message.getContextualDecomposition());
      case GRADIENT_SHAP -> read(message.getGradientShap());
      case COUNTERFACTUAL -> read(message.getCounterfactual());
      case METHOD_NOT_SET -> null;
    };
  }

  private static void write(Method.Lrp m, lstmexplain.v1.Lrp.Builder body) {
    if (m.productRule() != null) {
      body.setProductRule(lstmexplain.v1.ProductRule.valueOf(Wire.name(m.productRule())));
    }
    if (m.epsilon() != null) {
      body.setEpsilon(m.epsilon());
    }
    if (m.biasFactor() != null) {
      body.setBiasFactor(m.biasFactor());
    }
    if (m.composite() != null) {
      body.setComposite(encode(m.composite()));
    }
    if (m.stabiliser() != null) {
      body.setStabiliser(m.stabiliser());
    }
    if (m.cellStabiliser() != null) {
      body.setCellStabiliser(m.cellStabiliser());
    }
    if (m.layerStabiliser() != null) {
      body.setLayerStabiliser(m.layerStabiliser());
    }
    if (m.ceiling() != null) {
      body.setCeiling(m.ceiling());
    }
  }

  private static Method.Lrp read(lstmexplain.v1.Lrp body) {
    return new Method.Lrp(
        Wire.constant(Method.ProductRule.class, body.getProductRule()),
        body.hasEpsilon() ? body.getEpsilon() : null,
        body.hasBiasFactor() ? body.getBiasFactor() : null,
        body.hasComposite() ? decode(body.getComposite()) : null,
        body.hasStabiliser() ? body.getStabiliser() : null,
        body.hasCellStabiliser() ? body.getCellStabiliser() : null,
        body.hasLayerStabiliser() ? body.getLayerStabiliser() : null,
        body.hasCeiling() ? body.getCeiling() : null);
  }

  private static void write(Method.IntegratedGradients m, lstmexplain.v1.IntegratedGradients.Builder body) {
    if (m.steps() != null) {
      body.setSteps(m.steps());
    }
    body.addAllBaseline(Wire.encode(m.baseline()));
    if (m.maxSteps() != null) {
      body.setMaxSteps(m.maxSteps());
    }
    if (m.background() != null) {
      body.setBackground(encode(m.background()));
    }
  }

  private static Method.IntegratedGradients read(lstmexplain.v1.IntegratedGradients body) {
    return new Method.IntegratedGradients(
        body.hasSteps() ? body.getSteps() : null,
        Wire.decode(body.getBaselineList()),
        body.hasMaxSteps() ? body.getMaxSteps() : null,
        body.hasBackground() ? decode(body.getBackground()) : null);
  }

  private static void write(Method.SmoothGrad m, lstmexplain.v1.SmoothGrad.Builder body) {
    if (m.samples() != null) {
      body.setSamples(m.samples());
    }
    if (m.noise() != null) {
      body.setNoise(m.noise());
    }
    if (m.seed() != null) {
      body.setSeed(m.seed());
    }
  }

  private static Method.SmoothGrad read(lstmexplain.v1.SmoothGrad body) {
    return new Method.SmoothGrad(
        body.hasSamples() ? body.getSamples() : null,
        body.hasNoise() ? body.getNoise() : null,
        body.hasSeed() ? body.getSeed() : null);
  }

  private static void write(Method.Occlusion m, lstmexplain.v1.Occlusion.Builder body) {
    if (m.window() != null) {
      body.setWindow(m.window());
    }
    body.addAllBaseline(Wire.encode(m.baseline()));
    if (m.of() != null) {
      body.setOf(lstmexplain.v1.Quantity.valueOf(Wire.name(m.of())));
    }
    if (m.over() != null) {
      body.setOver(lstmexplain.v1.Players.valueOf(Wire.name(m.over())));
    }
    if (m.background() != null) {
      body.setBackground(encode(m.background()));
    }
  }

  private static Method.Occlusion read(lstmexplain.v1.Occlusion body) {
    return new Method.Occlusion(
        body.hasWindow() ? body.getWindow() : null,
        Wire.decode(body.getBaselineList()),
        Wire.constant(Method.Quantity.class, body.getOf()),
        Wire.constant(Method.Players.class, body.getOver()),
        body.hasBackground() ? decode(body.getBackground()) : null);
  }

  private static void write(Method.ShapleySampling m, lstmexplain.v1.ShapleySampling.Builder body) {
    if (m.permutations() != null) {
      body.setPermutations(m.permutations());
    }
    if (m.seed() != null) {
      body.setSeed(m.seed());
    }
    body.addAllBaseline(Wire.encode(m.baseline()));
    if (m.over() != null) {
      body.setOver(lstmexplain.v1.Players.valueOf(Wire.name(m.over())));
    }
    if (m.background() != null) {
      body.setBackground(encode(m.background()));
    }
    if (m.standardError() != null) {
      body.setStandardError(m.standardError());
    }
    if (m.maxPermutations() != null) {
      body.setMaxPermutations(m.maxPermutations());
    }
    if (m.exactPlayers() != null) {
      body.setExactPlayers(m.exactPlayers());
    }
  }

  private static Method.ShapleySampling read(lstmexplain.v1.ShapleySampling body) {
    return new Method.ShapleySampling(
        body.hasPermutations() ? body.getPermutations() : null,
        body.hasSeed() ? body.getSeed() : null,
        Wire.decode(body.getBaselineList()),
        Wire.constant(Method.Players.class, body.getOver()),
        body.hasBackground() ? decode(body.getBackground()) : null,
        body.hasStandardError() ? body.getStandardError() : null,
        body.hasMaxPermutations() ? body.getMaxPermutations() : null,
        body.hasExactPlayers() ? body.getExactPlayers() : null);
  }

  private static void write(Method.ContextualDecomposition m, lstmexplain.v1.ContextualDecomposition.Builder body) {
    if (m.span() != null) {
      body.setSpan(encode(m.span()));
    }
  }

  private static Method.ContextualDecomposition read(lstmexplain.v1.ContextualDecomposition body) {
    return new Method.ContextualDecomposition(
        body.hasSpan() ? decode(body.getSpan()) : null);
  }

  private static void write(Method.GradientShap m, lstmexplain.v1.GradientShap.Builder body) {
    if (m.samples() != null) {
      body.setSamples(m.samples());
    }
    if (m.seed() != null) {
      body.setSeed(m.seed());
    }
    body.addAllBaseline(Wire.encode(m.baseline()));
    if (m.background() != null) {
      body.setBackground(encode(m.background()));
    }
  }

  private static Method.GradientShap read(lstmexplain.v1.GradientShap body) {
    return new Method.GradientShap(
        body.hasSamples() ? body.getSamples() : null,
        body.hasSeed() ? body.getSeed() : null,
        Wire.decode(body.getBaselineList()),
        body.hasBackground() ? decode(body.getBackground()) : null);
  }

  private static void write(Method.Counterfactual m, lstmexplain.v1.Counterfactual.Builder body) {
    if (m.most() != null) {
      body.setMost(m.most());
    }
    if (m.maxRuns() != null) {
      body.setMaxRuns(m.maxRuns());
    }
    if (m.threshold() != null) {
      body.setThreshold(m.threshold());
    }
    body.addAllBaseline(Wire.encode(m.baseline()));
    if (m.over() != null) {
      body.setOver(lstmexplain.v1.Players.valueOf(Wire.name(m.over())));
    }
    if (m.background() != null) {
      body.setBackground(encode(m.background()));
    }
  }

  private static Method.Counterfactual read(lstmexplain.v1.Counterfactual body) {
    return new Method.Counterfactual(
        body.hasMost() ? body.getMost() : null,
        body.hasMaxRuns() ? body.getMaxRuns() : null,
        body.hasThreshold() ? body.getThreshold() : null,
        Wire.decode(body.getBaselineList()),
        Wire.constant(Method.Players.class, body.getOver()),
        body.hasBackground() ? decode(body.getBackground()) : null);
  }

  static lstmexplain.v1.Composite encode(Method.Composite value) {
    var body = lstmexplain.v1.Composite.newBuilder();
    write(value, body);
    return body.build();
  }

  private static void write(Method.Composite m, lstmexplain.v1.Composite.Builder body) {
    m.rules().forEach((key, entry) -> body.putRules(key, encode(entry)));
    if (m.first() != null) {
      body.setFirst(encode(m.first()));
    }
  }

  static Method.Composite decode(lstmexplain.v1.Composite body) {
    return new Method.Composite(
        Wire.mapped(body.getRulesMap(), MethodWire::decode),
        body.hasFirst() ? decode(body.getFirst()) : null);
  }

  static lstmexplain.v1.Background encode(Method.Background value) {
    var body = lstmexplain.v1.Background.newBuilder();
    write(value, body);
    return body.build();
  }

  private static void write(Method.Background m, lstmexplain.v1.Background.Builder body) {
    body.addAllSamples(Wire.encode(m.samples()));
    if (m.draws() != null) {
      body.setDraws(m.draws());
    }
    if (m.seed() != null) {
      body.setSeed(m.seed());
    }
  }

  static Method.Background decode(lstmexplain.v1.Background body) {
    return new Method.Background(
        Wire.decode(body.getSamplesList()),
        body.hasDraws() ? body.getDraws() : null,
        body.hasSeed() ? body.getSeed() : null);
  }

  static lstmexplain.v1.Span encode(Method.Span value) {
    var body = lstmexplain.v1.Span.newBuilder();
    write(value, body);
    return body.build();
  }

  private static void write(Method.Span m, lstmexplain.v1.Span.Builder body) {
    body.setStart(m.start());
    body.setEnd(m.end());
  }

  static Method.Span decode(lstmexplain.v1.Span body) {
    return new Method.Span(
        body.getStart(),
        body.getEnd());
  }
}

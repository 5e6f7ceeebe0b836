package lstmexplain;

import java.util.Map;

/**
 * Accounts for the explained value of every sample: explained = inputs + initialStates + absorbed +
 * residual. Every tensor has shape [batch].
 *
 * @param inputs the sum of the relevance of all inputs
 * @param initialStates the relevance of initial states that are constants of the model
 * @param absorbed with LRP: what biases, constants and stabilisers kept; with a method that has a
 *     baseline: what the baseline scores
 * @param residual what is left; with LRP: rounding
 * @param byNode {@code absorbed}, a node each
 */
public record Ledger(
    Tensor inputs,
    Tensor initialStates,
    Tensor absorbed,
    Tensor residual,
    Map<String, Tensor> byNode) {}

# SPDX-License-Identifier: Apache-2.0
"""Independent truth for the tests: Layer-wise Relevance Propagation as the papers print it.

Float64 NumPy, one sample at a time, message matrices written out, loops over time. Slow on purpose: every line is
meant to be held against a formula. Nothing here imports the engine.

Bach et al. 2015         "On Pixel-Wise Explanations ... by Layer-Wise Relevance Propagation", PLOS ONE 10(7)
Arras et al. 2017        "Explaining Recurrent Neural Network Predictions in Sentiment Analysis", WASSA 2017, section 3
Arras et al. 2019        "Explaining and Interpreting LSTMs", in: Explainable AI, LNCS 11700, sections 11.2 and 11.3
"""

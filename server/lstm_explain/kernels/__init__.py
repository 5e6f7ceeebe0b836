"""The time loops of LSTM, GRU and RNN, compiled."""

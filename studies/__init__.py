"""Studies of language models, one command each: predict, register, retrain, compare, tell."""

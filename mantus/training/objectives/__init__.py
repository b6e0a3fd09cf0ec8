"""What is learnt: batches, losses and adapters of pretraining, tuning and preferences.

It knows rows of ids, not processes.
"""

"""What a string is: tokenizer, chat template, tool calls, grammar; shared by training, serving, evaluation and agent.

It knows no model and no network.
"""

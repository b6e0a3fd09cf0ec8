"""The Berkeley function calling leaderboard's rows and rules, scored by code of our own. It knows no model."""

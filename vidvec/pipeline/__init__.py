"""PLAN → SUBMISSION: several recipes from one folder of data, stage by stage, to one table."""

"""The budgets: each row of what the project promises (DESIGN.md 8), measured by one function."""

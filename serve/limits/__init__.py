"""What visitors may ask for: budgets, logins, origins, uploads."""

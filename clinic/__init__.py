"""The sample application: a multi-tenant clinic, and the database this repository manages."""

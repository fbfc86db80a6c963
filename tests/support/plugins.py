"""The plugins that runs of pytest in tests do without: they take longer to load than to use."""

WITHOUT = " ".join(f"-p no:{name}" for name in ("schemathesis", "hypothesispytest", "anyio"))

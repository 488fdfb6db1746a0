"""State that outlives a process: models, migrations, the model registry and the audit log."""

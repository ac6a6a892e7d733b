"""Pictures of what people see, made to be looked at: ``scripts/screenshots``."""

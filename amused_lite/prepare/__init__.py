"""A published model, prepared for this machine: the plan, the stages, and the proof that it is the same model."""

"""Fields that make the quickstart a matter of seconds on the small data set of `stories_folder`."""

TINY_FIELDS = [
    "model.vocab_size=400",
    "model.context_length=37",
    "model.d_model=22",
    "model.num_layers=1",
    "model.num_heads=11",
    "model.d_ff=29",
    "data.eval_tokens=700",
    "schedule.warmup_steps=2",
    "batch_size=5",
    "device=cpu",
]

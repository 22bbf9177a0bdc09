"""Videos, frame by frame: all that is not rain is kept. The only place that knows PyAV."""

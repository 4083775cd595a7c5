"""The pods of the chart on a Docker engine, and a rolling update of the inference service under load."""

"""Design-space exploration: which machine is better, and where it stops paying, on real traces and exactly.

A spec (`spec`) names parameters of a machine; `space` makes points of them, `machines` the machine of each; `session`
simulates what points share only once; `store` keeps what was found; `engine` and `cluster` run batches; `coordinate`
joins them.
"""

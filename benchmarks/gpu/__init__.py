"""All that needs a GPU, in one command: ``python -m benchmarks.gpu --minutes 8 --output FOLDER``.

A module a part, each with a function ``run(bench)``.
"""

"""Small servers that put an engine's library behind the OpenAI API: `python -m metainf.hosts.llama_cpp ...`.

Each is started as a process of its own and takes the words that its engine's `launch` writes.
"""

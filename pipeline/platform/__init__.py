"""The local platform: the classify contract answered from an index on this machine.

Nothing is imported here: numpy, aiohttp's server and the tokenizer cost start-up time that only a command which serves
or fills an index should pay.
"""

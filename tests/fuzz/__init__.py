"""Hostile input for the three readers of foreign bytes: id lists, answers of the platform, configurations.

Random bytes die at the first check, so nearly every case starts from a valid document. A case that is left whole must
give exactly what it was made from; one that is spoilt, in its structure, in its bytes or in its compression, must give
a right value, told by a second reading that shares no code with the first, or an error of ours.

A case is made from its seed and its number alone, in plain Python: hypothesis draws some hundred documents a second
where this makes thousands, and whoever has the two numbers has the case. What is the same for every reader is in
``mutation`` (documents) and ``running`` (the loop, and what an error may look like).
"""

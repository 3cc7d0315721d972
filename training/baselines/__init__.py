"""The networks that the paper compares itself with, each after its own paper; one module each, found by its name.

A module has ``PRESETS`` (constructor arguments by preset name; ``paper`` is the size of its paper, ``compact`` costs what our
compact inpainter costs, ``tiny`` is for tests), ``NETWORK`` (a `Rival`), ``OBJECTIVE`` (an `Objective`) and ``ATTENTION``
(whether ``attention=False`` puts a plain convolution in the place of its attention, as Table 3 does with ours). Where a
network depends on the size of its pictures, ``fit(arguments, size)`` changes the arguments for less than 256 pixels.

Dilated convolutions of the small presets have multiples of 16 channels: with others oneDNN's weight gradients in bfloat16 and
channels-last order are now and then not a number (torch 2.14 on AVX-512).
"""

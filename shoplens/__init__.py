"""Shared code: settings, parameters, exceptions, digests, the stage guard and the command line.

Nothing here depends on events, features or models, or imports another folder of the project. The command line imports
a command's folder only when that command is called.
"""

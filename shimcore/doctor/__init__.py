"""Looks at everything between a pod and its image, in order: what holds, what does not, the mend.

A file for each group of checks; each returns findings, and `run` bounds them in time.
"""

from __future__ import annotations

from shimcore.doctor.finding import Finding, Result
from shimcore.doctor.node import Node, node_of
from shimcore.doctor.run import examine

__all__ = ["Finding", "Node", "Result", "examine", "node_of"]

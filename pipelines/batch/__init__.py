"""Many files, long ones in segments: on one machine or on a cluster, and again where it was stopped."""

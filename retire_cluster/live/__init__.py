"""`/ws`: what happens in the cluster, pushed to whoever watches."""

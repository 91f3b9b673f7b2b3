# Adds to the image of deploy/Dockerfile what KubeRay needs: Ray's job server, and wget for its
# liveness probes. Build deploy/Dockerfile first, then, from the repository's root:
#   docker build -f deploy/kuberay.Dockerfile -t REGISTRY/metarl-harness:TAG .
FROM metarl-harness
USER root
RUN apt-get update && apt-get install -y --no-install-recommends wget && rm -rf /var/lib/apt/lists/*
COPY constraints.txt /tmp/constraints.txt
RUN pip install --no-cache-dir -c /tmp/constraints.txt "ray[default]"
USER metarl

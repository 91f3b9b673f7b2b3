# The image of deploy/Dockerfile with what KubeRay needs of it: Ray's job server, and wget, with
# which KubeRay asks a pod whether it is alive. From the repository's root, after that one:
#   docker build -f deploy/kuberay.Dockerfile -t REGISTRY/metarl-harness:TAG .
FROM metarl-harness
USER root
RUN apt-get update && apt-get install -y --no-install-recommends wget && rm -rf /var/lib/apt/lists/*
COPY constraints.txt /tmp/constraints.txt
RUN pip install --no-cache-dir -c /tmp/constraints.txt "ray[default]"
USER metarl

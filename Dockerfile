# docker build -t varshare .                                        PyTorch's CPU build
# docker build -t varshare --build-arg PIP_EXTRA_INDEX_URL= .       its CUDA build; run with --gpus all
# docker run --rm -v "$PWD:/work" varshare fit --config complex_cartpole
FROM python:3.13-slim
ARG PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
COPY . /src
RUN python -m pip install --no-cache-dir --constraint /src/constraints.txt "/src[render,study,tensorboard,video]"
WORKDIR /work
ENTRYPOINT ["varshare"]

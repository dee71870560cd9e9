FROM python:3.11-slim

# torch.compile and Triton build small pieces of native code at run time.
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ \
 && rm -rf /var/lib/apt/lists/*

# Open to any user, so that `docker run --user` can match the owner of a mounted folder.
RUN useradd --uid 1000 workbook \
 && install -d -m 1777 /workbook/data /workbook/results /workbook/home
ENV HOME=/workbook/home USER=workbook PYTHONUNBUFFERED=1

# torch for the CPU alone, or for another CUDA, is a matter of the package index it comes from.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
COPY pyproject.toml /build/
RUN cd /build \
 && python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; print(*project['dependencies'], *project['optional-dependencies']['s3'], sep='\n')" > requirements.txt \
 && pip install --no-cache-dir -r requirements.txt

COPY README.md /build/
COPY core /build/core
RUN pip install --no-cache-dir --no-deps /build

USER workbook
WORKDIR /workbook
VOLUME ["/workbook/data", "/workbook/results"]
ENTRYPOINT ["workbook"]
CMD ["--help"]

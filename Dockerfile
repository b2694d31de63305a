# SPDX-License-Identifier: BSD-3-Clause
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY . .
RUN ./scripts/test.sh
RUN go build -o /echo ./examples/echo

FROM debian:bookworm-slim
RUN apt-get update \
	&& apt-get install -y --no-install-recommends \
		libevent-core-2.1-7 libevent-extra-2.1-7 libevent-pthreads-2.1-7 \
	&& rm -rf /var/lib/apt/lists/*
COPY --from=build /echo /usr/local/bin/libevent-echo
USER nobody
EXPOSE 9595
# The default address, on loopback, cannot be reached from outside of the container.
ENTRYPOINT ["libevent-echo", "-addr", "0.0.0.0:9595"]

# SPDX-License-Identifier: BSD-3-Clause
# The image of the echo server: two static programs, and nothing else. "docker build --target test ."
# runs all checks and tests. scripts/platforms.sh replays the other steps.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY . .
# deps.sh installs what is missing.
RUN . scripts/deps.sh
# The linker warns that getaddrinfo would load shared libraries. The server looks up no names: the
# tags have Go do without C for that, too.
RUN go build -tags libevent_static,netgo,osusergo -ldflags '-s -w -linkmode external -extldflags -static' -o /image/echo ./examples/echo
RUN CGO_ENABLED=0 go build -ldflags '-s -w' -o /image/health ./scripts/health

FROM build AS test
RUN ./scripts/test.sh

FROM scratch
COPY --from=build /image/ /
USER 65534:65534
EXPOSE 9595
HEALTHCHECK --interval=30s --timeout=5s CMD ["/health", "127.0.0.1:9595"]
# The default address, on loopback, cannot be reached from outside of the container.
ENTRYPOINT ["/echo", "-addr", "0.0.0.0:9595"]

"""nginx as a reverse proxy of HTTP that keeps connections to its server open, and shares them among its clients.

Observed with Debian's 1.22.1.
"""

from support.peers import free_port

CONFIGURATION = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    upstream back {{
        server 127.0.0.1:{target};
        keepalive 1;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://back;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"""


def start(lab, target):
    """Start nginx in front of a loopback port, with one connection to it for all clients; return its port."""
    port = free_port()
    configuration = lab.folder / "nginx.conf"
    text = CONFIGURATION.format(folder=lab.folder, target=target, port=port)
    configuration.write_text(text, encoding="ascii")
    lab.start_server(["nginx", "-c", configuration, "-e", lab.folder / "nginx-start.log"], port)
    return port

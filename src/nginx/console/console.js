"use strict";
const byId = (id) => document.getElementById(id);
const LINES = 2000;
let socket = null;

byId("address").value = location.href.split("#")[0].replace(/^http/, "ws");

function log(kind, text) {
  const line = document.createElement("div");
  line.className = kind;
  const mark = { in: "<", out: ">", note: "-" }[kind];
  line.textContent = `${new Date().toISOString().slice(11, 23)} ${mark} ${text}`;
  const lines = byId("log");
  const follow = lines.scrollTop + lines.clientHeight >= lines.scrollHeight - 4;
  lines.append(line);
  while (lines.childElementCount > LINES) lines.firstElementChild.remove();
  if (follow) lines.scrollTop = lines.scrollHeight;
}

function hexadecimal(buffer) {
  const octets = new Uint8Array(buffer);
  const shown = Array.from(octets.subarray(0, 64), (octet) => octet.toString(16).padStart(2, "0")).join(" ");
  return `binary, ${octets.length} octets: ${shown}${octets.length > 64 ? " ..." : ""}`;
}

function show(state) {
  byId("state").textContent = state;
  const open = state === "open";
  for (const id of ["send", "send-file", "close"]) byId(id).disabled = !open;
  byId("connect").disabled = state !== "closed";
}

byId("connection").addEventListener("submit", (event) => {
  event.preventDefault();
  const names = byId("protocols").value.split(",").map((name) => name.trim()).filter(Boolean);
  try {
    socket = new WebSocket(byId("address").value, names);
  } catch (error) {
    log("note", error.message);
    return;
  }
  socket.binaryType = "arraybuffer";
  show("connecting");
  socket.onopen = () => {
    show("open");
    log("note", `open${socket.protocol ? `, subprotocol ${socket.protocol}` : ""}`);
  };
  socket.onmessage = ({ data }) => log("in", typeof data === "string" ? data : hexadecimal(data));
  socket.onclose = ({ code, reason, wasClean }) => {
    show("closed");
    log("note", `closed ${code}${reason ? ` ${reason}` : ""}${wasClean ? "" : ", not clean"}`);
  };
});

byId("sender").addEventListener("submit", (event) => {
  event.preventDefault();
  if (socket === null || socket.readyState !== WebSocket.OPEN) return;
  const text = byId("message").value;
  socket.send(text);
  log("out", text);
  byId("message").select();
});

byId("send-file").addEventListener("click", async () => {
  const file = byId("file").files[0];
  if (!file) return;
  const octets = await file.arrayBuffer();
  socket.send(octets);
  log("out", `${file.name}: ${hexadecimal(octets)}`);
});

byId("closer").addEventListener("submit", (event) => {
  event.preventDefault();
  try {
    socket.close(Number(byId("code").value), byId("reason").value);
    show("closing");
  } catch (error) {
    log("note", error.message);
  }
});

byId("clear").addEventListener("click", () => byId("log").replaceChildren());

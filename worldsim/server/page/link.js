// The websocket: inputs out, the newest picture in.

const HEAD = new TextDecoder();

export class Link {
  // on: {hello(told), picture(header, bitmap), error(line), closed(code, reason)}
  constructor(place, on) {
    const token = new URLSearchParams(location.search).get("token");
    const url = new URL(`play/${place}`, location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    url.search = token ? `?token=${encodeURIComponent(token)}` : "";
    this.on = on;
    this.number = 0; // of the last message sent
    this.shown = 0; // pictures shown since the connection began
    this.work = Promise.resolve();
    this.socket = new WebSocket(url);
    this.socket.binaryType = "arraybuffer";
    this.socket.onmessage = (event) => this.take(event.data);
    this.socket.onclose = (event) => on.closed(event.code, event.reason);
  }

  get open() {
    return this.socket.readyState === WebSocket.OPEN;
  }

  // All that is held now, and commands. Each message stands alone: the newest wins.
  say(held, commands = []) {
    if (!this.open) return;
    this.number += 1;
    this.socket.send(JSON.stringify({ number: this.number, held, commands }));
  }

  close() {
    this.socket.onclose = null;
    this.socket.close();
  }

  take(data) {
    if (typeof data === "string") {
      const told = JSON.parse(data);
      if ("error" in told) this.on.error(told.error);
      else this.on.hello(told);
      return;
    }
    // One after the other: a picture that is decoded sooner must not overtake the one before it.
    this.work = this.work.then(() => this.show(data)).catch((reason) => this.on.error(String(reason)));
  }

  async show(data) {
    const length = new DataView(data).getUint16(0);
    const header = JSON.parse(HEAD.decode(new Uint8Array(data, 2, length)));
    const bitmap = await createImageBitmap(new Blob([new Uint8Array(data, 2 + length)]));
    if (!this.open) return; // meanwhile left
    this.on.picture(header, bitmap);
    bitmap.close();
    this.shown += 1;
    this.socket.send(JSON.stringify({ shown: this.shown }));
  }
}

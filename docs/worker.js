// A browser starts no Worker from a file on disk. There the search runs in a hidden frame, which looks like a Worker.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(url) {
      const frame = document.createElement("iframe")
      frame.hidden = true
      frame.answer = (data) => this.onmessage?.(new MessageEvent("message", { data }))
      const loaded = new Promise((resolve) => { frame.onload = resolve })
      this.postMessage = (data) =>
        loaded.then(() => frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })))
      const answer = "window.postMessage = (data) => frameElement.answer(data)"
      frame.srcdoc = `<script>${answer}<\/script><script src="${url}"><\/script>`
      const append = () => document.body.append(frame)
      document.body ? append() : addEventListener("DOMContentLoaded", append)
      this.terminate = () => frame.remove()
    }
  }
}

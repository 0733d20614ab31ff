// Browsers start no Worker from a page that was opened as a file (file:// is an origin of its own kind). The site's search
// is one: here its script runs in a hidden frame, and messages go both ways by calls. Pages that are served keep real workers.
if (location.protocol === "file:") {
  window.Worker = class FrameWorker {
    constructor(path) {
      this.onmessage = this.onerror = this.onmessageerror = null;
      this.waiting = []; // messages for a script that is not loaded yet
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.frame.srcdoc = "<!doctype html><title>search</title>";
      this.frame.addEventListener("load", () => this.load(new URL(path, location.href)), { once: true });
      document.body.append(this.frame);
    }
    load(url) {
      const inside = this.frame.contentWindow;
      inside.postMessage = (data) => setTimeout(() => this.onmessage && this.onmessage({ data }));
      const script = inside.document.createElement("script");
      script.src = url;
      script.addEventListener("error", (event) => this.onerror && this.onerror(event));
      script.addEventListener("load", () => {
        const waiting = this.waiting;
        this.waiting = null;
        waiting.forEach((data) => this.postMessage(data));
      });
      inside.document.body.append(script);
    }
    postMessage(data) {
      if (this.waiting) this.waiting.push(data);
      else setTimeout(() => this.frame.isConnected && this.frame.contentWindow.onmessage({ data }));
    }
    terminate() {
      this.frame.remove();
    }
  };
}

// Search in pages that are opened from a folder: browsers start no worker there, so a hidden frame runs its script.
if (location.protocol === "file:")
  window.Worker = window.IFrameWorker = class extends EventTarget {
    constructor(script) {
      super();
      const frame = Object.assign(document.createElement("iframe"), { hidden: true });
      document.body.append(frame);
      this.inside = frame.contentWindow;
      this.inside.document.open();
      this.inside.document.write("<body></body>");
      this.inside.document.close();
      this.inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }));
      const run = Object.assign(this.inside.document.createElement("script"), { src: new URL(script, location) });
      this.isReady = new Promise(done => (run.onload = done));
      this.inside.document.body.append(run);
    }
    postMessage(data) {
      this.isReady.then(() => this.inside.dispatchEvent(new MessageEvent("message", { data })));
    }
  };

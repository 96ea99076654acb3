// A plain server in Go: net/http and MongoDB's driver. One change stream; each batch is rendered once and
// offered to a buffered channel of each client, whose goroutine writes all that waits and flushes once.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

const (
	keepAlive = 15 * time.Second
	// Batches that wait for one client. A client with more is too slow: it is disconnected.
	queued = 256
)

type hub struct {
	mutex   sync.Mutex
	clients map[chan []byte]struct{}
}

func (h *hub) join() chan []byte {
	client := make(chan []byte, queued)
	h.mutex.Lock()
	h.clients[client] = struct{}{}
	h.mutex.Unlock()
	return client
}

func (h *hub) leave(client chan []byte) {
	h.mutex.Lock()
	delete(h.clients, client)
	h.mutex.Unlock()
}

func (h *hub) publish(frames []byte) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	for client := range h.clients {
		select {
		case client <- frames:
		default:
			delete(h.clients, client)
			close(client)
		}
	}
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	flusher, can := w.(http.Flusher)
	if !can {
		http.Error(w, "streaming is not supported", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("Access-Control-Allow-Origin", "*")
	client := h.join()
	defer h.leave(client)
	flusher.Flush()
	beat := time.NewTicker(keepAlive)
	defer beat.Stop()
	for {
		select {
		case <-r.Context().Done():
			return
		case <-beat.C:
			if _, err := w.Write([]byte(":\n\n")); err != nil {
				return
			}
		case frames, open := <-client:
			if !open || !write(w, client, frames) {
				return
			}
		}
		flusher.Flush()
	}
}

// write writes these frames and all others that wait.
func write(w http.ResponseWriter, client chan []byte, frames []byte) bool {
	for {
		if _, err := w.Write(frames); err != nil {
			return false
		}
		select {
		case more, open := <-client:
			if !open {
				return false
			}
			frames = more
		default:
			return true
		}
	}
}

type change struct {
	ID struct {
		Data string `bson:"_data"`
	} `bson:"_id"`
	FullDocument bson.M `bson:"fullDocument"`
}

// follow publishes the changes, a batch of the driver's at a time.
func follow(ctx context.Context, changes *mongo.ChangeStream, h *hub) error {
	for changes.Next(ctx) {
		var frames bytes.Buffer
		for {
			var one change
			if err := changes.Decode(&one); err != nil {
				return err
			}
			data, err := json.Marshal(one.FullDocument)
			if err != nil {
				return err
			}
			fmt.Fprintf(&frames, "id: %s\ndata: %s\n\n", one.ID.Data, data)
			if changes.RemainingBatchLength() == 0 || !changes.Next(ctx) {
				break
			}
		}
		h.publish(frames.Bytes())
	}
	return changes.Err()
}

func main() {
	ctx := context.Background()
	client, err := mongo.Connect(options.Client().ApplyURI(os.Getenv("MONGO_URI")))
	if err != nil {
		log.Fatal(err)
	}
	collection := client.Database(os.Getenv("DATABASE")).Collection(os.Getenv("COLLECTION"))
	lookup := options.ChangeStream().SetFullDocument(options.UpdateLookup)
	changes, err := collection.Watch(ctx, mongo.Pipeline{}, lookup)
	if err != nil {
		log.Fatal(err)
	}
	h := &hub{clients: map[chan []byte]struct{}{}}
	http.Handle("GET /stream", h)
	go func() { log.Fatal(follow(ctx, changes, h)) }()
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}

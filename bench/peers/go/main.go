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

type client struct {
	frames chan []byte
	// A deadline in the past ends a write that is stuck.
	response *http.ResponseController
}

type hub struct {
	mutex   sync.Mutex
	clients map[*client]struct{}
}

func (h *hub) join(w http.ResponseWriter) *client {
	c := &client{make(chan []byte, queued), http.NewResponseController(w)}
	h.mutex.Lock()
	h.clients[c] = struct{}{}
	h.mutex.Unlock()
	return c
}

func (h *hub) leave(c *client) {
	h.mutex.Lock()
	delete(h.clients, c)
	h.mutex.Unlock()
}

func (h *hub) publish(frames []byte) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	for c := range h.clients {
		select {
		case c.frames <- frames:
		default:
			delete(h.clients, c)
			close(c.frames)
			c.response.SetWriteDeadline(time.Now())
		}
	}
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("Access-Control-Allow-Origin", "*")
	c := h.join(w)
	defer h.leave(c)
	beat := time.NewTicker(keepAlive)
	defer beat.Stop()
	for c.response.Flush() == nil {
		select {
		case <-r.Context().Done():
			return
		case <-beat.C:
			if _, err := w.Write([]byte(":\n\n")); err != nil {
				return
			}
		case frames, open := <-c.frames:
			if !open || !c.write(w, frames) {
				return
			}
		}
	}
}

// write writes these frames and all others that wait.
func (c *client) write(w http.ResponseWriter, frames []byte) bool {
	for {
		if _, err := w.Write(frames); err != nil {
			return false
		}
		select {
		case more, open := <-c.frames:
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
	database, err := mongo.Connect(options.Client().ApplyURI(os.Getenv("MONGO_URI")))
	if err != nil {
		log.Fatal(err)
	}
	collection := database.Database(os.Getenv("DATABASE")).Collection(os.Getenv("COLLECTION"))
	lookup := options.ChangeStream().SetFullDocument(options.UpdateLookup)
	changes, err := collection.Watch(ctx, mongo.Pipeline{}, lookup)
	if err != nil {
		log.Fatal(err)
	}
	h := &hub{clients: map[*client]struct{}{}}
	http.Handle("GET /stream", h)
	go func() { log.Fatal(follow(ctx, changes, h)) }()
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}

// A Mercure hub from its library, with the storage of its own distribution: updates are kept in a file, so
// that a client that comes back is sent what it missed. It logs nothing, as the other servers here.
package main

import (
	"context"
	"log"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/dunglas/mercure"
)

func main() {
	ctx := context.Background()
	quiet := slog.New(slog.DiscardHandler)
	subscribers := mercure.NewSubscriberList(mercure.DefaultSubscriberListCacheSize)
	file := os.Getenv("MERCURE_FILE")
	kept, err := mercure.NewBoltTransport(subscribers, quiet, file, "", 0, mercure.BoltDefaultCleanupFrequency)
	if err != nil {
		log.Fatal(err)
	}
	hub, err := mercure.NewHub(
		ctx,
		mercure.WithTransport(kept),
		mercure.WithAnonymous(),
		mercure.WithPublisherJWT([]byte(os.Getenv("MERCURE_KEY")), "HS256"),
		mercure.WithHeartbeat(15*time.Second),
		mercure.WithLogger(quiet),
	)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), hub))
}
